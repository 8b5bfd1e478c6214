# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does a private training run keep its promise?
#
# A small model is trained on real handwritten digits with DP-SGD. Theory claims an ε; 20,000 canaries, each in the
# data by a private fair coin, are there to catch it lying. Both are numbers for the same thing, so they belong on one
# axis: the claim from above, the evidence from below.

# %%
# %matplotlib inline
from accountant import available, dp_sgd, epsilon_bounds
from audit import demo
from audit.core.run_config import RunConfig
from mechanisms import UnsupportedProcess

# %% [markdown]
# ## The run
#
# `demo.run` calibrates the noise to ε = 4 at δ = 1e-5, trains for 100 steps on Poisson samples, and hands every noisy
# gradient sum to the attack. A seed makes it reproducible, and therefore not private: the report says so.

# %%
report = demo.run(RunConfig(data="digits", epsilon=4.0, delta=1e-5, seed=0), directory=None, log=print)

# %% [markdown]
# ## Both jaws on one axis

# %%
report.plot()

# %% [markdown]
# ## The claim
#
# Accountants reach the same number by different mathematics; each certified interval holds the truth.

# %%
process = report.process
for name in available():
    try:
        bounds = epsilon_bounds(process, delta=1e-5, accountant=name)
        print(f"{name:9} {bounds.lower:9.5f} <= ε <= {bounds.upper:.5f}")
    except UnsupportedProcess as refusal:
        print(f"{name:9} refuses: {str(refusal).splitlines()[0]}")

# %% [markdown]
# ## The evidence
#
# `one_run` counts right guesses about canaries and assumes nothing about the trainer; `accountant_inversion` measures
# the noise and assumes the described process. Both were named before the run and share the error of 5 %.

# %%
for bound in (report.evidence, report.refutation, *report.exploratory):
    print(f"{bound.method:21} ε >= {bound.epsilon:.3f} at {bound.confidence:.0%}, {bound.guarantee}")
print(f"accuracy {report.accuracy:.1%}, out-score variance ÷ (T σ²) = {report.noise_ratio:.3f}, which must be 1")

# %% [markdown]
# ## Had the noise been a quarter of what was claimed
#
# the true ε would have been far above 4, and far above what the same evidence could have missed:

# %%
(sampled, steps), noise = (process.part, process.times), process.part.part.noise_multiplier
quarter = dp_sgd(noise_multiplier=noise / 4, sample_rate=sampled.sampling.probability, steps=steps)
print(f"ε with a quarter of the noise: {epsilon_bounds(quarter, delta=1e-5).upper:.2f}")

# %% [markdown]
# ## The answer
#
# The verdict below. A consistent audit proves nothing beyond the attack that was tried; a violated one would have
# proved, at 95 %, that the promise is false.

# %%
print(report.verdict)
