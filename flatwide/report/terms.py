"""Short definitions of the terms of a page; docs/glossary.md has the long form."""

from collections.abc import Iterable

from flatwide import catalogue
from flatwide.columns import RESULT_FIELDS

_ALWAYS = {
    "SAM": "sharpness-aware minimization: each step uses the gradient at a point a distance ρ uphill from the weights, "
    "which biases training towards minima around which the loss stays low",
    "base": "the optimizer that SAM wraps, used alone: the same run with ρ = 0",
    "rho (ρ)": "the distance, in weight space, of SAM's uphill step",
    "width": "the size that grows along a family of networks, and the number of parameters with it",
    "seed": "the number that determines initial weights, data order and all other randomness; the SAM and base run of "
    "a seed share all of it, so they are compared as a pair",
    "gain": "mean over seeds of SAM − base, signed so that positive means that SAM is better",
    "best rho": "the rho of the grid with the best mean over seeds, among those without a diverged seed",
    "corrected gain": "the gain with each seed scored at the rho that the other seeds choose, which removes the "
    "selection bias across seeds",
    "95 % interval": "computed by a rule that covers the true value in 95 of 100 studies; wide with few seeds",
    "points": "percentage points: from 90 % to 92 % is two points",
    "diverged": "the loss became infinite or NaN; such a run has no metric, and its rho cannot be the best",
}
# It is unknown what a seed determines in runs that were trained elsewhere.
_OF_OTHERS = {"seed": "the number of a repetition of a setting; the SAM and base run of a seed are compared as a pair"}
_SOMETIMES = {
    "collapsed": "the loss stayed finite, but the network is no better than a prediction that ignores its inputs, such "
    "as the most frequent class; an accuracy counts as no better if the lower end of its exact 95 % interval does not "
    "exceed that prediction's",
    "interpolation": "fitting all labels of the training examples, including wrong ones",
    "equal compute": "compared with a base trained with the same number of gradients; SAM uses two per step",
    "label noise": "the share of training labels that were replaced by wrong ones; test labels stay correct",
    "sparsity": "the share of weights that are zero throughout training",
}


def terms(text: str, *, columns: Iterable[str], are_ours: bool = True) -> list[tuple[str, str]]:
    """Return the terms that a page uses with their definitions.

    Args:
      text: the text of the page.
      columns: those of its table of runs.
      are_ours: whether flatwide trained the runs.
    """
    text = text.lower().replace("interpolates", "interpolation").replace("_", " ")
    measured = {
        word: meaning for measurement in catalogue.MEASUREMENTS.values() for word, meaning in measurement.terms.items()
    }
    sometimes = measured | _SOMETIMES
    meanings = _ALWAYS | ({} if are_ours else _OF_OTHERS)
    meanings |= {word: meaning for word, meaning in sometimes.items() if word.lower() in text}
    shown = {name.replace("_", " "): RESULT_FIELDS[name].text for name in columns if name in RESULT_FIELDS}
    return list((meanings | shown).items())
