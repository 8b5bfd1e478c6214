import pytest

from audit.core.described import SampledGaussianRun
from mechanisms import Compose, Gaussian, Poisson, RandomizedResponse, Repeat, Sampled, UnsupportedProcess
from tests.dpsgd.schemes import EVERY_SCHEME

STEP = Sampled(Gaussian(noise_multiplier=2.0), Poisson(probability=0.25))


@pytest.mark.parametrize(
    "process",
    [Repeat(STEP, 6), Repeat(Repeat(STEP, 2), 3), Compose((STEP,) * 6), Compose((Repeat(STEP, 5), STEP))],
    ids=["repeat", "nested", "listed", "mixed"],
)
def test_the_same_run_is_read_however_it_is_written(process):
    assert SampledGaussianRun.of(process) == SampledGaussianRun(noise_multiplier=2.0, probability=0.25, steps=6)


def test_a_run_without_sampling_takes_every_record():
    assert SampledGaussianRun.of(Gaussian(noise_multiplier=1.0)).probability == 1.0


def test_reading_undoes_writing():
    run = SampledGaussianRun(noise_multiplier=2.0, probability=0.25, steps=6)
    assert SampledGaussianRun.of(run.process()) == run


@pytest.mark.parametrize(
    "process",
    [
        Compose(()),
        RandomizedResponse(epsilon=1.0),
        Compose((STEP, Gaussian(noise_multiplier=1.0))),
        Sampled(RandomizedResponse(epsilon=1.0), Poisson(probability=0.5)),
        Sampled(Repeat(Gaussian(noise_multiplier=1.0), 2), Poisson(probability=0.5)),
    ],
    ids=["empty", "other", "mixed", "sampled other", "two in one sample"],
)
def test_other_processes_are_refused(process):
    with pytest.raises(UnsupportedProcess, match="must be one Gaussian step on Poisson samples, repeated"):
        SampledGaussianRun.of(process)


@pytest.mark.parametrize("name", [name for name in EVERY_SCHEME if name != "Poisson"])
def test_a_claim_of_other_samples_is_refused_by_name(name):
    with pytest.raises(UnsupportedProcess, match=r"audit: the process must be .* on Poisson samples") as refusal:
        SampledGaussianRun.of(EVERY_SCHEME[name].process())
    assert repr(EVERY_SCHEME[name].sampling) in str(refusal.value)
