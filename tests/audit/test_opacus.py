"""Loops with Opacus, and with a stand-in of what of Opacus is used, so that most holds without it."""

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from audit import GuessExtremes, TrainerTask, audit, signed_coordinates  # noqa: E402
from audit.attack import FinalModel  # noqa: E402
from audit.attacks.input_gradient import GradientProduct  # noqa: E402
from audit.canaries import InputCanaries  # noqa: E402
from audit.core.expected_sums import parameterwise_sum  # noqa: E402
from audit.core.faults import TrainerFault  # noqa: E402
from audit.directions import directions_across_layers  # noqa: E402
from audit.opacus import opacus_trainer  # noqa: E402
from dpsgd import Dataset  # noqa: E402
from mechanisms import Adjacency, Gaussian, InvalidParameter, KeyedSource, Poisson, Repeat, Sampled  # noqa: E402

STEPS, RATE, BOUND = 20, 0.25, 0.5


def records(count=60, width=3):
    torch.manual_seed(0)
    return Dataset(features=torch.rand(count, width), targets=torch.zeros(count))


def first_output(outputs, targets):
    return outputs[:, 0]


class StandIn:
    """What `make_private` makes of an optimiser, for a linear layer whose output is the loss: gradients are inputs."""

    loss_reduction, expected_batch_size, accumulated_iterations, max_grad_norm = "mean", 10.0, 1, BOUND

    def __init__(self, model, noise, clips=True):
        self.original_optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.params, self.noise, self.clips = list(model.parameters()), noise, clips

    def clip_and_accumulate(self):
        (samples,) = (parameter.grad_sample for parameter in self.params)
        norms = samples.reshape(len(samples), -1).norm(dim=1)
        factors = (BOUND / norms).clamp(max=1.0) if self.clips else torch.ones(len(samples))
        self.params[0].summed_grad = torch.einsum("i,i...", factors, samples)

    def step(self):
        self.clip_and_accumulate()
        noise = self.noise * BOUND * torch.randn_like(self.params[0])
        self.params[0].grad = (self.params[0].summed_grad + noise) / self.expected_batch_size
        self.original_optimizer.step()


class Ghostly(StandIn):
    """Clips within the loss, where no gradient of one example is ever held."""

    def step(self):
        self.params[0].grad = torch.zeros(1, 3)
        self.original_optimizer.step()


class Spectre(StandIn):
    """Ghost clipping of that layer: norms of examples, and the sum that their weights leave."""

    def __init__(self, model, noise, clips):
        super().__init__(model, noise, clips)
        self.model = model
        model.get_clipping_coef = self.weights

    def weights(self):
        norms = self.params[0]._norm_sample
        return (BOUND / norms).clamp(max=1.0) if self.clips else torch.ones_like(norms)

    def clip_and_accumulate(self):
        samples = self.params[0].grad_sample
        self.params[0]._norm_sample = samples.reshape(len(samples), -1).norm(dim=1)
        self.params[0].grad = torch.einsum("i,i...", self.model.get_clipping_coef(), samples)
        self.accumulate()

    def accumulate(self):
        self.params[0].summed_grad = self.params[0].grad.clone()


class Adaptive(StandIn):
    """Moves its bound as it goes."""

    def step(self):
        self.max_grad_norm = 1.5 * BOUND
        super().step()


class Quantile(StandIn):
    """Says that its bound moves."""

    target_unclipped_quantile = 0.5


class Elsewhere(StandIn):
    """Trains parameters that are not the model's."""

    def __init__(self, model, noise, clips):
        super().__init__(torch.nn.Linear(3, 1, bias=False), noise, clips)


def twice(dataset, watch):
    for _ in range(2):
        stand_in_loop()(dataset, watch)


def stand_in_loop(*, noise=1.0, clips=True, width=3, drop=False, shown=None, kind=StandIn):
    def train(dataset, watch):
        model = torch.nn.Linear(width, 1, bias=False)
        optimizer = kind(model, noise, clips)
        watch(model, shown or optimizer, SimpleNamespace(sample_rate=RATE))
        for _ in range(STEPS):
            rows = torch.nonzero(torch.rand(len(dataset)) < RATE)[:, 0]
            batch = [dataset[int(row)][0] for row in rows]
            features = torch.stack(batch[1:] if drop else batch) if batch else torch.zeros(0, width)
            optimizer.params[0].grad_sample = features[:, None, :].clone()
            optimizer.step()

    return train


def task(canaries, membership, adjacency, key=0):
    return TrainerTask(
        canaries=canaries, membership=np.array(membership), streams=KeyedSource(key), adjacency=adjacency
    )


def released(trainer, given):
    found = []
    observations = trainer(given)
    observations.released(found.append)
    return observations, found


def trainer_of(loop, **more):
    asked = {"loss": first_output, "max_grad_norm": BOUND} | more
    return opacus_trainer(loop, records(), **asked)


def test_releases_are_the_noisy_sums_and_then_the_model():
    canaries = signed_coordinates(canaries=3, dimension=3, rng=np.random.default_rng(0))
    observations, (*steps, final) = released(
        trainer_of(stand_in_loop(noise=0.0)), task(canaries, [False] * 3, Adjacency.ZERO_OUT)
    )
    assert len(steps) == STEPS and isinstance(final, FinalModel)
    moved = steps[0].weights_before - steps[1].weights_before
    torch.testing.assert_close(moved, 0.1 * steps[0].noisy_sum / 10.0)
    expected = observations.expected_sum(steps[0].weights_before)
    clipped = records().features * (BOUND / records().features.norm(dim=1, keepdim=True)).clamp(max=1.0)
    torch.testing.assert_close(expected, RATE * clipped.sum(0), rtol=1e-4, atol=1e-5)
    mean = torch.stack([step.noisy_sum for step in steps]).mean(0)
    assert float((mean - expected).norm()) < 0.35 * float(expected.norm())


def test_a_loop_draws_from_the_run_and_leaves_generators_as_they_were(monkeypatch):
    """Those of the CPU and of the device in use, which stands in for CUDA; of other devices it takes no hold."""

    def called(*_):
        raise AssertionError("another CUDA device")

    cuda, seen = [torch.Generator("cpu").manual_seed(number) for number in range(2)], []

    def loop(dataset, watch):
        stand_in_loop()(dataset, watch)
        seen.append([torch.rand(3), *(torch.rand(3, generator=one) for one in cuda)])

    trainer = trainer_of(loop)
    for name, value in (("is_available", lambda: True), ("init", lambda: None), ("current_device", lambda: 1)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "default_generators", cuda)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", called)
    canaries = signed_coordinates(canaries=1, dimension=3, rng=np.random.default_rng(0))
    for key in (0, 0, 1):
        before = [torch.get_rng_state(), cuda[1].get_state()]
        released(trainer, task(canaries, [True], Adjacency.ZERO_OUT, key=key))
        assert all(map(torch.equal, before, [torch.get_rng_state(), cuda[1].get_state()]))
    drawn = [[numbers[place] for numbers in seen] for place in range(3)]
    for first, again, other in (drawn[0], drawn[2]):
        assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(drawn[1][0], drawn[1][1])


@pytest.mark.parametrize("kind", [StandIn, Spectre])
def test_a_canary_adds_its_direction_at_the_bound_and_moves_nothing_else(kind):
    canaries = signed_coordinates(canaries=2, dimension=3, rng=np.random.default_rng(0))
    (_, within), (_, without) = (
        released(trainer_of(stand_in_loop(kind=kind)), task(canaries, [included, True], Adjacency.ZERO_OUT))
        for included in (True, False)
    )
    added = torch.stack([a.noisy_sum - b.noisy_sum for a, b in zip(within[:-1], without[:-1], strict=True)])
    direction = torch.zeros(3)
    direction[canaries.coordinates[0]] = BOUND * canaries.signs[0]
    taken = added.norm(dim=1) > 0.1
    assert 0 < int(taken.sum()) < STEPS
    torch.testing.assert_close(added[taken], direction.expand(int(taken.sum()), 3), rtol=0, atol=1e-4)
    assert float(added[~taken].abs().max()) < 1e-4


@pytest.mark.parametrize("kind", [StandIn, Spectre])
def test_a_loop_that_does_not_clip_shows_ten_contributions(kind):
    canaries = signed_coordinates(canaries=1, dimension=3, rng=np.random.default_rng(0))
    (_, within), (_, without) = (
        released(trainer_of(stand_in_loop(clips=False, kind=kind)), task(canaries, [included], Adjacency.ZERO_OUT))
        for included in (True, False)
    )
    added = [float((a.noisy_sum - b.noisy_sum).norm()) for a, b in zip(within[:-1], without[:-1], strict=True)]
    assert max(added) == pytest.approx(10 * BOUND, rel=1e-4)


def test_sums_by_ghost_clipping_are_those_of_gradients_that_are_written_over():
    canaries = signed_coordinates(canaries=2, dimension=3, rng=np.random.default_rng(0))
    given = task(canaries, [True, True], Adjacency.ZERO_OUT)
    (_, hooked), (_, haunted) = (released(trainer_of(stand_in_loop(kind=kind)), given) for kind in (StandIn, Spectre))
    for one, other in zip(hooked[:-1], haunted[:-1], strict=True):
        torch.testing.assert_close(one.noisy_sum, other.noisy_sum, rtol=1e-5, atol=1e-5)


def test_input_canaries_are_in_the_dataset_where_their_coins_say_so():
    canaries = InputCanaries(features=np.ones((4, 3), dtype=np.float32), targets=np.zeros(4, dtype=np.float32))
    seen = []

    def train(dataset, watch):
        seen.append(len(dataset))
        stand_in_loop()(dataset, watch)

    released(trainer_of(train), task(canaries, [True, False, True, True], Adjacency.ADD_REMOVE))
    assert seen == [63]


@pytest.mark.parametrize(
    ("loop", "change", "message"),
    [
        (stand_in_loop(), {"max_grad_norm": 2.0}, "max_grad_norm must be the optimizer's, 0.5, got 2.0"),
        (stand_in_loop(shown=torch.optim.SGD), {}, "must be what make_private returned, .* has no original_optimizer"),
        (stand_in_loop(drop=True), {}, "every record fetched must have one gradient"),
        (stand_in_loop(kind=Ghostly), {}, "where neither gradients nor norms of examples can be written over"),
        (stand_in_loop(kind=Adaptive), {}, "max_grad_norm must stay 0.5 in every step, and it moved"),
        (stand_in_loop(kind=Quantile), {}, "clipping must be 'flat' or 'per_layer', got 'adaptive'"),
        (stand_in_loop(kind=Elsewhere), {}, r"optimizer must hold model.parameters\(\) in their order"),
        (twice, {}, "watch must be called once in a run"),
        (
            stand_in_loop(),
            {"loss": lambda *both: first_output(*both).mean()},
            "loss must be one for each example, and for 2",
        ),
        (stand_in_loop(width=4), {}, "canaries must have the dimension of the model, 4 trainable parameters, got 3"),
    ],
)
def test_what_is_no_loop_with_opacus_is_refused_by_name(loop, change, message):
    canaries = signed_coordinates(canaries=3, dimension=3, rng=np.random.default_rng(0))
    with pytest.raises(InvalidParameter, match=message):
        released(trainer_of(loop, **change), task(canaries, [True] * 3, Adjacency.ZERO_OUT))


def test_records_that_are_no_dataset_are_refused():
    with pytest.raises(InvalidParameter, match=r"records must be a dpsgd\.Dataset, got TensorDataset"):
        opacus_trainer(
            stand_in_loop(), torch.utils.data.TensorDataset(torch.ones(3)), loss=first_output, max_grad_norm=BOUND
        )


def test_gradient_canaries_of_other_neighbours_are_refused():
    canaries = signed_coordinates(canaries=3, dimension=3, rng=np.random.default_rng(0))
    with pytest.raises(InvalidParameter, match="GradientCanaries with adjacency 'zero_out'"):
        trainer_of(stand_in_loop())(task(canaries, [True] * 3, Adjacency.ADD_REMOVE))


def opacus_loop(dataset, watch, noise, privacy_engine):
    model = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    model, optimizer, loader = privacy_engine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        data_loader=torch.utils.data.DataLoader(dataset, batch_size=len(dataset) // 5),
        noise_multiplier=noise,
        max_grad_norm=1.0,
    )
    watch(model, optimizer, loader)
    for _ in range(3):
        for features, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(features), targets).backward()
            optimizer.step()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("noise", "verdict"), [(2.0, "consistent"), (1.0, "description refuted")])
def test_an_opacus_loop_is_audited_as_it_stands(noise, verdict):
    privacy_engine = pytest.importorskip("opacus", reason="opacus is not installed (extra `peers`)").PrivacyEngine
    torch.manual_seed(0)
    data = Dataset(features=torch.rand(600, 64), targets=torch.arange(600) % 10)
    report = audit(
        opacus_trainer(
            lambda dataset, watch: opacus_loop(dataset, watch, noise, privacy_engine),
            data,
            loss=torch.nn.CrossEntropyLoss(reduction="none"),
            max_grad_norm=1.0,
        ),
        claim=Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.2)), 15),
        delta=1e-5,
        adjacency="zero_out",
        canaries=signed_coordinates(canaries=1_000, dimension=1_210, rng=np.random.default_rng(0)),
        guessing_rule=GuessExtremes(included=100, excluded=100),
        randomness=KeyedSource(1),
        check=True,
    )
    assert (report.verdict, report.faults) == (verdict, ())


def shuffling(dataset, watch, loader):
    """Take every record once in each of five epochs of four steps, whatever the loader says."""
    model = torch.nn.Linear(3, 1, bias=False)
    optimizer = StandIn(model, 1.0)
    watch(model, optimizer, loader)
    for _ in range(STEPS // 4):
        for rows in torch.randperm(len(dataset)).chunk(4):
            optimizer.params[0].grad_sample = torch.stack([dataset[int(row)][0] for row in rows])[:, None, :].clone()
            optimizer.step()


def watched(loop, **more):
    canaries = signed_coordinates(canaries=3, dimension=3, rng=np.random.default_rng(0))
    trainer = opacus_trainer(loop, records(200), loss=first_output, max_grad_norm=BOUND, **more)
    return released(trainer, task(canaries, [True] * 3, Adjacency.ZERO_OUT, key=4))[1]


def test_a_loop_that_shuffles_under_a_claim_of_poisson_samples_is_called_out():
    plain = torch.utils.data.DataLoader(records(), batch_size=15)
    with pytest.raises(InvalidParameter, match=r"loader must draw Poisson samples, .* got DataLoader, which has no"):
        watched(lambda dataset, watch: shuffling(dataset, watch, plain))
    lying = SimpleNamespace(sample_rate=RATE)
    with pytest.raises(TrainerFault, match="records came again too rarely for Poisson samples, as in a shuffle"):
        watched(lambda dataset, watch: shuffling(dataset, watch, lying))
    assert len(watched(stand_in_loop())) == STEPS + 1
    assert len(watched(lambda dataset, watch: shuffling(dataset, watch, plain), poisson_sampling=False)) == STEPS + 1


def loop_of_opacus(mode, noise, opacus):
    def train(dataset, watch):
        model = torch.nn.Sequential(
            torch.nn.Linear(40, 32, bias=False), torch.nn.ReLU(), torch.nn.Linear(32, 10, bias=False)
        )
        bound, more = (BOUND, {}) if mode != "layers" else ([BOUND / 2**0.5] * 2, {"clipping": "per_layer"})
        if "ghost" in mode:
            more = {"grad_sample_mode": "ghost", "criterion": torch.nn.CrossEntropyLoss()}
        model, optimizer, *criterion, loader = opacus.PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
            data_loader=torch.utils.data.DataLoader(dataset, batch_size=len(dataset) // 4),
            noise_multiplier=noise,
            max_grad_norm=bound,
            **more,
        )
        loss = criterion[0] if criterion else torch.nn.functional.cross_entropy
        watch(model, optimizer, loader)
        for _ in range(4):
            batches = contextlib.nullcontext(loader)
            if "small batches" in mode:
                from opacus.utils.batch_memory_manager import BatchMemoryManager

                batches = BatchMemoryManager(data_loader=loader, max_physical_batch_size=64, optimizer=optimizer)
            with batches as taken:
                for number, (features, targets) in enumerate(taken):
                    if "unused" in mode and number == 2:
                        break
                    if "accumulated" not in mode or number % 2 == 0:
                        optimizer.zero_grad()
                    loss(model(features), targets).backward()
                    if "accumulated" not in mode or number % 2 == 1:
                        optimizer.step()

    return train


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["small batches", "layers", "ghost", "ghost in small batches"])
@pytest.mark.parametrize(("noise", "verdict"), [(2.0, "consistent"), (1.0, "description refuted")])
def test_other_loops_of_opacus_are_judged_as_rightly(mode, noise, verdict):
    opacus = pytest.importorskip("opacus", reason="opacus is not installed (extra `peers`)")
    canaries, rng = 300, np.random.default_rng(0)
    torch.manual_seed(0)
    known = Dataset(features=torch.rand(800 - canaries, 40), targets=torch.arange(800 - canaries) % 10)
    layers = {"0.weight": 1280, "2.weight": 320}
    report = audit(
        opacus_trainer(
            loop_of_opacus(mode, noise, opacus),
            known,
            loss=torch.nn.CrossEntropyLoss(reduction="none"),
            max_grad_norm=BOUND,
        ),
        claim=Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.25)), 16),
        delta=1e-5,
        adjacency="zero_out",
        canaries=directions_across_layers(canaries=canaries, layers=layers, rng=rng)
        if mode == "layers"
        else signed_coordinates(canaries=canaries, dimension=1600, rng=rng),
        guessing_rule=GuessExtremes(included=4, excluded=4),
        randomness=KeyedSource(1),
    )
    assert (report.verdict, report.faults) == (verdict, ())
    assert report.noise_ratio == pytest.approx((noise / 2) ** 2, rel=0.35)


def test_where_opacus_clips_parameters_the_sum_subtracted_is_clipped_so_too():
    torch.manual_seed(0)
    model, data = torch.nn.Linear(3, 2), Dataset(features=torch.rand(5, 3), targets=torch.arange(5) % 2)
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = parameterwise_sum(model, data, loss=loss, bounds=[0.1, 0.3])(weights)
    parts = [torch.zeros(6), torch.zeros(2)]
    for x, y in zip(data.features, data.targets, strict=True):
        gradients = torch.autograd.grad(loss(model(x[None]), y[None]).sum(), list(model.parameters()))
        for part, gradient, bound in zip(parts, gradients, (0.1, 0.3), strict=True):
            part += gradient.flatten() * min(1.0, bound / float(gradient.norm()))
    torch.testing.assert_close(found, torch.cat(parts), rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
def test_the_readmes_loop_is_audited_as_written():
    pytest.importorskip("opacus", reason="opacus is not installed (extra `peers`)")
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = [part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "from opacus import" in part]
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["report"].verdict == "consistent" and names["report"].faults == ()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("mode", "gradients", "message"),
    [
        ("ghost accumulated", True, "a step of ghost clipping must be of one batch, and there were more"),
        ("ghost accumulated", False, "a step of ghost clipping must be of one batch, and there were more"),
        ("unused", True, "every record fetched must have one gradient"),
        ("ghost unused", True, "every record fetched must have one gradient"),
    ],
)
def test_batches_that_opacus_or_the_loop_loses_are_refused(mode, gradients, message):
    opacus = pytest.importorskip("opacus", reason="opacus is not installed (extra `peers`)")
    rng = np.random.default_rng(0)
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    known = Dataset(features=torch.rand(80, 40), targets=torch.arange(80) % 10)
    trainer = opacus_trainer(loop_of_opacus(mode, 1.0, opacus), known, loss=loss, max_grad_norm=BOUND)
    canaries = signed_coordinates(canaries=4, dimension=1600, rng=rng)
    if not gradients:
        canaries = InputCanaries(features=np.ones((4, 40), dtype=np.float32), targets=np.zeros(4, dtype=np.int64))
    given = task(canaries, [True] * 4, Adjacency.ZERO_OUT if gradients else Adjacency.ADD_REMOVE)
    with pytest.raises(InvalidParameter, match=message):
        released(trainer, given)


def test_a_number_of_steps_that_follows_from_the_coins_is_explained():
    def by_size(dataset, watch):
        model = torch.nn.Linear(3, 1, bias=False)
        optimizer = StandIn(model, 1.0)
        watch(model, optimizer, SimpleNamespace(sample_rate=RATE))
        for _ in range(len(dataset) // 4):
            optimizer.params[0].grad_sample = torch.ones(1, 1, 3)
            optimizer.step()

    canaries = InputCanaries(features=np.ones((40, 3), dtype=np.float32), targets=np.zeros(40, dtype=np.float32))
    report = audit(
        trainer_of(by_size),
        claim=Repeat(Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=RATE)), 99),
        delta=1e-5,
        adjacency="add_remove",
        canaries=canaries,
        attack=GradientProduct(model=torch.nn.Linear(3, 1, bias=False), loss=first_output),
        guessing_rule=GuessExtremes(included=4, excluded=4),
        randomness=KeyedSource(1),
    )
    assert report.verdict == "none" and "of the 99 steps claimed; if that follows from len(dataset)" in report.faults[0]
