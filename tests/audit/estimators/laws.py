"""Laws of scores that are (ε, δ)-private, hard ones first: (rng, n_in, n_out, ε, δ) -> scores in, scores out."""

import numpy as np
from scipy import optimize, special


def answers(rng, runs, epsilon, delta, inside):
    """The answers of a randomised response, 3 to 0 by falling odds of "in"."""
    right = rng.random(runs) < special.expit(epsilon)
    guess = np.where(right == inside, 2.0, 1.0)
    return np.where(rng.random(runs) < delta, 3.0 if inside else 0.0, guess)


def constant_ratio(rng, n_in, n_out, epsilon, delta):
    inside, outside = randomised_response(rng, n_in, n_out, epsilon, delta)
    return inside + rng.random(n_in), outside + rng.random(n_out)


def randomised_response(rng, n_in, n_out, epsilon, delta):
    return answers(rng, n_in, epsilon, delta, True), answers(rng, n_out, epsilon, delta, False)


def gaussian_pair(rng, n_in, n_out, epsilon, delta):
    def excess(mu):
        return special.ndtr(mu / 2 - epsilon / mu) - np.exp(epsilon) * special.ndtr(-mu / 2 - epsilon / mu) - delta

    mu = optimize.brentq(excess, 1e-9, 50) if delta > 0 else 0.0
    return rng.normal(mu, 1, n_in), rng.normal(0, 1, n_out)


def laplace_pair(rng, n_in, n_out, epsilon, delta):
    return rng.laplace(epsilon, 1, n_in), rng.laplace(0, 1, n_out)


def upper_tail(rng, n_in, n_out, epsilon, delta):
    """A ratio e^ε on one hundredth of the out-scores, the rest as even as can be."""
    inside = rng.random(n_in) + (rng.random(n_in) < 0.01 * np.exp(min(epsilon, 4.5)))
    return inside, rng.random(n_out) + (rng.random(n_out) < 0.01)


def atom(rng, n_in, n_out, epsilon, delta):
    """Told outright with probability δ, nothing otherwise."""
    return np.where(rng.random(n_in) < delta, 1.0, 0.0), np.zeros(n_out)


def equal(rng, n_in, n_out, epsilon, delta):
    return rng.normal(size=n_in), rng.normal(size=n_out)


def tied(rng, n_in, n_out, epsilon, delta):
    return np.zeros(n_in), np.zeros(n_out)


LAWS = (constant_ratio, randomised_response, gaussian_pair, laplace_pair, upper_tail, atom, equal, tied)
