"""The entries of the measurements that ship with flatwide, in the order of reports."""

import itertools

from flatwide.catalogue.entries import (
    CURVATURE,
    DETAIL,
    DRAWN,
    DYNAMICS,
    HEADLINE,
    LANDSCAPE,
    LISTED,
    UNIFORMITY,
    ArrayFigure,
    Measurement,
    Quantity,
)

_CURVE, _RATE, _RHO = "loss / parameter²", "learning rate", "parameter² / loss"
_PER_RATE = "1 / learning rate"
_STEP, _LENGTH = "1 / step", "parameter units"


def _robustness(examples: str, *, loss: str, metric: str) -> tuple[Quantity, ...]:
    """Return the quantities of the robustness on training or test examples; `loss` and `metric` are what changes."""
    return (
        *_changes("loss_rise", f"rise of the {loss}", "loss"),
        *_changes("metric_change", f"change of the {metric}", ""),
        Quantity("loss", f"{examples} loss, as measured", "loss", role=LISTED),
        Quantity("metric", f"{examples} metric, as measured", role=LISTED, is_signed=True),
    )


def _changes(name: str, title: str, unit: str) -> list[Quantity]:
    """Return the quantities of a change for each size of noise and each rounding; one of each kind is drawn."""
    headline = HEADLINE if name == "loss_rise" else DRAWN
    words = {f"noise_{size}": f"{title} with {size} % of noise in the weights" for size in (5, 10, 20)}
    for bits, kind in itertools.product((8, 4), ("tensor", "channel")):
        words[f"rounded_{bits}_{kind}"] = f"{title} with {bits} bits, one spacing per {kind}"
    roles = {"noise_10": headline, "rounded_4_channel": DRAWN}
    return [
        Quantity(f"{change}_{name}", text, unit, role=roles.get(change, LISTED), is_signed=True)
        for change, text in words.items()
    ]


MEASUREMENTS: dict[str, Measurement] = {
    "curvature": Measurement(
        section=CURVATURE,
        sentence="How strongly the training loss curves at the minima. Smaller is flatter.",
        quantities=(
            Quantity(
                "top_eigenvalue",
                "top eigenvalue of the Hessian",
                _CURVE,
                symbol="λ_1",
                role=HEADLINE,
                is_flatness=True,
            ),
            Quantity("trace", "trace of the Hessian", _CURVE, symbol="tr H", is_flatness=True),
            Quantity("frobenius_norm", "Frobenius norm of the Hessian", _CURVE, symbol="|H|_F"),
            Quantity("smallest_eigenvalue", "smallest eigenvalue of the Hessian", _CURVE, is_signed=True),
            Quantity("eigenvalue_*", "eigenvalue {} of the Hessian", _CURVE, role=LISTED),
            Quantity("largest_residual", "largest residual of an eigenvalue", _CURVE, role=DETAIL),
            Quantity("top_hidden_gap", "how far above the last one an eigenvalue may hide", _CURVE, role=DETAIL),
            Quantity("smallest_hidden_gap", "how far below the smallest an eigenvalue may hide", _CURVE, role=DETAIL),
            Quantity("is_saddle", "whether the loss has a direction of negative curvature", role=DETAIL),
        ),
        terms={
            "Hessian": "the matrix of second derivatives of the loss by the weights: the curvature of the loss in "
            "every direction",
            "top eigenvalue": "of the Hessian: the curvature of the loss in the direction of largest curvature",
            "trace": "of the Hessian: the sum of its eigenvalues, that is the total curvature over all directions",
        },
    ),
    "sharpness": Measurement(
        section=CURVATURE,
        sentence="How much the training loss rises within a small distance of the minima. Smaller is flatter.",
        quantities=(
            Quantity("worst", "worst-case sharpness", "loss", role=HEADLINE, is_flatness=True),
            Quantity("average", "average-case sharpness", "loss", is_signed=True, is_flatness=True),
            Quantity("sam", "sharpness along SAM's perturbation", "loss", is_signed=True),
            Quantity("adaptive_worst", "adaptive worst-case sharpness", "loss", role=LISTED),
            Quantity("m_worst", "worst-case sharpness of batches", "loss", role=LISTED),
            Quantity("worst_gap", "how far the loss may still rise within the ball", "loss", role=DETAIL),
        ),
    ),
    "layers": Measurement(
        section=CURVATURE,
        sentence="How sharp the training loss is along the weights of its sharpest layer, with the others fixed.",
        quantities=(
            Quantity("largest_top_eigenvalue", "largest top eigenvalue of a layer", _CURVE, role=HEADLINE),
            Quantity("largest_ascent_share", "largest share of a layer in SAM's perturbation"),
            Quantity("largest_sharpness", "largest sharpness of a layer", "loss"),
            Quantity("top_eigenvalue_*", "top eigenvalue of layer {}", _CURVE, role=LISTED),
            Quantity("trace_*", "trace of the Hessian of layer {}", _CURVE, role=LISTED),
            Quantity("ascent_share_*", "share of layer {} in SAM's perturbation", role=LISTED),
            Quantity("sharpness_*", "sharpness of layer {}", "loss", role=LISTED),
        ),
    ),
    "robustness": Measurement(
        section=CURVATURE,
        sentence="How much loss and metric of the training examples change with noise in the weights, relative to each "
        "tensor, and with weights rounded to few bits. Closer to zero is more robust.",
        quantities=_robustness("training", loss="loss", metric="metric"),
    ),
    "held_out_robustness": Measurement(
        function="flatwide.measurements.robustness:held_out_robustness",
        section=CURVATURE,
        sentence="The same for test examples: whether what was learned survives noise and rounding.",
        quantities=_robustness("test", loss="test loss", metric="test metric"),
    ),
    "averaged_robustness": Measurement(
        function="flatwide.measurements.robustness:averaged_robustness",
        section=CURVATURE,
        sentence="The same for the average of the weights along training.",
        quantities=_robustness("test", loss="averaged network's test loss", metric="averaged network's test metric"),
    ),
    "forgetting": Measurement(
        section=CURVATURE,
        sentence="What fine-tuning cost on test examples of the data that the network had learned before.",
        quantities=(
            Quantity("loss_rise", "rise of the loss on earlier data", "loss", role=HEADLINE, is_signed=True),
            Quantity("metric_change", "change of the metric on earlier data", role=LISTED, is_signed=True),
            Quantity("loss", "loss on earlier data", "loss", role=LISTED),
            Quantity("metric", "metric on earlier data", role=LISTED, is_signed=True),
            Quantity("tuned_loss", "loss on the new data, as measured", "loss", role=LISTED),
            Quantity("tuned_metric", "metric on the new data, as measured", role=LISTED, is_signed=True),
            Quantity("distance", "distance from the earlier weights", _LENGTH, role=LISTED),
            Quantity(
                "directional_sharpness",
                "sharpness of the earlier loss along the move",
                _CURVE,
                role=LISTED,
                is_signed=True,
            ),
        ),
    ),
    "spectrum": Measurement(
        section=CURVATURE,
        sentence="The shares of eigenvalues of the Hessian that are distinguishably below zero and above zero.",
        quantities=(
            Quantity("negative_share", "share of negative eigenvalues", is_signed=True),
            Quantity("positive_share", "share of positive eigenvalues", is_signed=True),
            Quantity("width", "width of the bumps of the density", _CURVE, role=DETAIL),
        ),
        figures=(
            ArrayFigure(
                kind="density",
                name="spectral_density",
                arrays=("grid", "density"),
                title="Spectral density of the Hessian",
                caption="The density of the eigenvalues of the Hessian, on a logarithmic scale: most are near zero, "
                "and a few large ones are the directions in which the minimum is sharp. {runs} Each eigenvalue is "
                "smoothed to a narrow bump.",
            ),
        ),
    ),
    "moments": Measurement(
        section=UNIFORMITY,
        sentence="How much the curvature differs from one training example to another. Smaller is more uniform.",
        quantities=(
            Quantity("s_2", "non-uniformity s_2", _CURVE, symbol="s_2", role=HEADLINE, is_flatness=True),
            Quantity("s_*", "non-uniformity s_{}", _CURVE, symbol="s_{}"),
            Quantity(
                "smallest_*",
                "smallest over largest eigenvalue of non-uniformity {}",
                role=LISTED,
                is_signed=True,
            ),
            Quantity("residual_*", "residual over largest eigenvalue of non-uniformity {}", role=DETAIL),
        ),
        terms={
            "non-uniformity": "s_k: how much the Hessians of single training examples differ from their mean",
        },
    ),
    "stability": Measurement(
        section=UNIFORMITY,
        sentence="Whether small distances from a minimum shrink if training continues there, with the learning rate of "
        "the run's last step, the unnormalized rule of the theory, and no momentum.",
        quantities=(
            Quantity(
                "largest_stable_learning_rate",
                "largest stable learning rate",
                _RATE,
                role=HEADLINE,
                compared_with="learning_rate",
            ),
            Quantity("growth_factor", "growth of squared distances a step"),
            Quantity("largest_stable_rho", "largest stable ρ of unnormalized SAM", _RHO),
            Quantity("condition_margin", "margin of the paper's condition", is_signed=True),
            Quantity("condition_learning_rate", "learning rate that the paper's condition allows", _RATE, role=LISTED),
            Quantity("condition_value", "value of the paper's condition", role=LISTED),
            Quantity("edge_of_stability", "top eigenvalue at the edge of stability", _CURVE, role=LISTED),
            Quantity(
                "bound_top_eigenvalue", "bound of the paper's condition on the top eigenvalue", _CURVE, role=LISTED
            ),
            Quantity("bound_s_*", "bound of the paper's condition on s_{}", _CURVE, role=LISTED),
            Quantity("learning_rate", "learning rate of the last step", _RATE, symbol="η", role=DETAIL),
            Quantity("rho", "ρ of the unnormalized rule", _RHO, symbol="ρ", role=DETAIL),
            Quantity("top_eigenvalue", "top eigenvalue of the Hessian", _CURVE, symbol="λ_1", role=DETAIL),
            Quantity("growth_low", "lower end of the growth's interval", role=DETAIL),
            Quantity("growth_high", "upper end of the growth's interval", role=DETAIL),
            Quantity("is_stable", "whether the minimum is linearly stable", role=DETAIL),
            Quantity("is_exact", "whether the growth was computed exactly", role=DETAIL),
            Quantity("condition_is_met", "whether the paper's condition is met", role=DETAIL),
        ),
        terms={
            "linearly stable": "of a minimum and an optimizer: a small distance from it does not grow on average, "
            "step by step",
        },
    ),
    "edge": Measurement(
        section=DYNAMICS,
        sentence="How close training is to the edge of stability: the top eigenvalue over the one at which full-batch "
        "steps of the run's rule become unstable, which is 1 at the edge.",
        quantities=(
            Quantity("edge_ratio", "top eigenvalue over that at the edge of stability", role=HEADLINE),
            Quantity("top_eigenvalue", "top eigenvalue of the Hessian", _CURVE, symbol="λ_1", role=LISTED),
            Quantity("edge_of_stability", "top eigenvalue at the edge of stability", _CURVE, role=LISTED),
            Quantity(
                "preconditioned_eigenvalue", "top eigenvalue of Adam's preconditioned Hessian", _PER_RATE, role=LISTED
            ),
            Quantity("preconditioned_edge", "the same at the edge of stability", _PER_RATE, role=LISTED),
            Quantity("training_share", "time of measuring over that of training", role=DETAIL),
            Quantity("learning_rate", "learning rate of the step", _RATE, symbol="η", role=DETAIL),
            Quantity("gradient_norm", "norm of the gradient", "loss / parameter", role=DETAIL),
            Quantity("top_residual", "residual of the eigenvalue", role=DETAIL),
            Quantity("top_hidden_gap", "how far above it an eigenvalue may hide", role=DETAIL),
            Quantity("is_warm", "whether the search began from the eigenvector before", role=DETAIL),
        ),
        terms={
            "edge of stability": "the curvature at which a step of training would overshoot a minimum by its distance "
            "from it; for gradient descent 2 over the learning rate",
        },
        num_param_arrays=1,  # the eigenvector
    ),
    "convergence": Measurement(
        section=DYNAMICS,
        sentence="How fast the training loss fell, and what bounds it.",
        quantities=(
            Quantity("rate", "rate at which the loss fell", _STEP, role=HEADLINE, is_signed=True),
            Quantity("bound_rate", "rate that the theorem promises", _STEP),
            Quantity("smoothness", "largest smoothness of an example", _CURVE, symbol="β"),
            Quantity("pl_constant", "PL constant α at the end", _CURVE, symbol="α", is_signed=True),
            Quantity("loss_smoothness", "smoothness of the mean loss", _CURVE, role=LISTED),
            Quantity(
                "effective_rho",
                "ρ of unnormalized SAM with the same steps",
                _RHO,
                symbol="ρ / ‖g‖",
                role=LISTED,
                is_signed=True,
            ),
            Quantity("largest_rho", "largest ρ that the theorem allows", _RHO, role=LISTED),
            Quantity("best_learning_rate", "learning rate that the theorem would choose", _RATE, role=LISTED),
            Quantity("best_rate", "rate that the theorem promises with it", _STEP, role=LISTED),
            Quantity(
                "rate_per_epoch", "rate at which the loss fell, by epochs", "1 / epoch", role=LISTED, is_signed=True
            ),
            Quantity("bend", "bend of the loss's decay", "1 / step²", role=LISTED, is_signed=True),
            Quantity("rate_low", "lower end of the rate's interval", _STEP, role=DETAIL),
            Quantity("rate_high", "upper end of the rate's interval", _STEP, role=DETAIL),
            Quantity("is_linear", "whether the decay is linear", role=DETAIL),
            Quantity("num_evaluations", "evaluations that the rate is fitted to", role=DETAIL),
        ),
    ),
    "smoothness": Measurement(
        section=DYNAMICS,
        sentence="How fast the gradient can change, and how steep the loss is relative to its height, along a training "
        "step.",
        quantities=(
            Quantity("smoothness", "smoothness constant β", _CURVE, symbol="β", role=HEADLINE),
            Quantity("pl_constant", "PL constant α", _CURVE, symbol="α"),
            Quantity("distance", "length of a step", _LENGTH),
        ),
    ),
    "activations": Measurement(
        section=DYNAMICS,
        sentence="The share of hidden ReLUs that are on, or off, both at the start of training and at its end.",
        quantities=(
            Quantity("stability", "stability of activations", role=HEADLINE),
            Quantity("stability_*", "stability of activations of {}", role=LISTED),
        ),
    ),
    "gradient": Measurement(
        section=DYNAMICS,
        sentence="The remaining training loss, and the norm of its gradient.",
        quantities=(
            Quantity("gradient_norm", "norm of the gradient", "loss / parameter", role=HEADLINE),
            Quantity("train_loss", "training loss, as measured", "loss", symbol="f"),
        ),
    ),
    "barrier": Measurement(
        section=LANDSCAPE,
        sentence="How far the loss rises on the straight line to the network of the same seed at ρ = 0.",
        quantities=(
            Quantity("barrier", "barrier to the network at ρ = 0", "loss", role=HEADLINE, is_signed=True),
            Quantity("distance", "distance from the network at ρ = 0", _LENGTH, is_signed=True),
            Quantity("position", "where on the line the barrier is", role=DETAIL),
        ),
        figures=(
            ArrayFigure(
                kind="line",
                name="loss_on_line",
                arrays=("line_positions", "line_losses"),
                title="The loss from {base} to SAM",
                caption="The training loss on the straight line between the weights of {base} and those of SAM. A "
                "hill between them shows that they are in different basins. For one seed, at the smallest and the "
                "largest size.",
                arms=("sam",),
            ),
        ),
        terms={"barrier": "how far the loss rises on the straight line between two trained networks"},
    ),
    "landscape": Measurement(
        section=LANDSCAPE,
        sentence="How far the loss rises around the minima, along filter-normalized random directions.",
        quantities=(
            Quantity("mean_rise", "mean rise of the loss over the plane", "loss", role=HEADLINE, is_signed=True),
            Quantity("largest_rise", "largest rise of the loss over the plane", "loss", is_signed=True),
        ),
        figures=(
            ArrayFigure(
                kind="plane",
                name="loss_on_plane",
                arrays=("plane_x", "plane_y", "plane_losses"),
                title="The loss around the minima",
                caption="The training loss over a plane in the space of weights, dark where it is high. {runs}",
            ),
        ),
    ),
    "sharpest_plane": Measurement(
        section=LANDSCAPE,
        sentence="How far the loss rises within 0.1 of the minima along the two directions of largest curvature.",
        quantities=(
            Quantity("mean_rise", "mean rise of the loss over the sharpest plane", "loss", role=HEADLINE),
            Quantity("largest_rise", "largest rise of the loss over the sharpest plane", "loss"),
        ),
        figures=(
            ArrayFigure(
                kind="plane",
                name="loss_on_sharpest_plane",
                arrays=("plane_x", "plane_y", "plane_losses"),
                title="The loss along the sharpest directions",
                caption="The training loss around the minima along the two leading eigenvectors of the Hessian, dark "
                "where it is high, with the minimum in the middle. A wider light spot is a flatter minimum. {runs}",
            ),
        ),
    ),
    "minima_plane": Measurement(
        section=LANDSCAPE,
        sentence="Where the network of SAM lies relative to two at ρ = 0, of the same and of another seed.",
        quantities=(
            Quantity("base_barrier", "barrier between two networks at ρ = 0", "loss", role=HEADLINE, is_signed=True),
            Quantity("distance", "distance of SAM's network from that at ρ = 0", _LENGTH),
            Quantity("base_distance", "distance between two networks at ρ = 0", _LENGTH),
            Quantity("start_distance", "distance of the initial weights from the network at ρ = 0", _LENGTH),
            Quantity("start_offset", "distance of the initial weights from the plane", _LENGTH, role=LISTED),
            Quantity("num_evaluations", "points at which the loss was evaluated", role=DETAIL),
        ),
        figures=(
            ArrayFigure(
                kind="contour",
                name="loss_on_minima_plane",
                arrays=("plane_x", "plane_y", "plane_losses", "coordinates", "offsets"),
                title="The loss between two minima of {base} and one of SAM",
                caption="The training loss on the plane through three networks, in discrete levels, darker where it is "
                "higher: {base} and SAM from the same initial weights, {base} from others, and the initial weights of "
                "the former two, projected onto the plane. Both axes are in parameter units and orthogonal; the levels "
                "differ between panels. For one seed at each size.",
                arms=("sam",),
                has_all_widths=True,
            ),
        ),
    ),
    "function": Measurement(
        section=DYNAMICS,
        sentence="The total variation of the function of a network with one input over the examples' range.",
        quantities=(
            Quantity("total_variation", "total variation of the function", "output units", role=HEADLINE),
            Quantity("slope_total_variation", "total variation of the function's slope", "output / input units"),
            Quantity("num_kinks", "number of kinks of the function", is_signed=True),
            Quantity("distance", "distance from the initial weights", _LENGTH),
        ),
        figures=(
            ArrayFigure(
                kind="function",
                name="functions",
                arrays=("grid", "outputs"),
                title="The functions of {base} and of SAM",
                caption="The outputs of the networks for each input: {base} above and SAM at its best ρ below. Thin "
                "lines are seeds, the thick line is their mean, and the band one standard deviation between seeds to "
                "either side; its root mean square between the outermost examples is the spread above each panel. "
                "Black dots are the training examples. Values outside the panel are clipped.",
                has_all_widths=True,
                has_all_seeds=True,
            ),
        ),
    ),
    "trajectory": Measurement(
        section=LANDSCAPE,
        sentence="How far the weights moved during training.",
        quantities=(
            Quantity("length", "length of the path of training", _LENGTH, role=HEADLINE),
            Quantity("distance", "distance from the start of the path", _LENGTH),
            Quantity("explained_1", "share of the first principal component"),
            Quantity("explained_2", "share of the second principal component", role=LISTED),
            Quantity("num_networks", "networks on the path", role=DETAIL),
            Quantity("largest_offset", "largest distance of a network from the plane", _LENGTH, role=DETAIL),
        ),
        figures=(
            ArrayFigure(
                kind="plane",
                name="trajectory",
                arrays=("surface_x", "surface_y", "surface_losses"),
                title="The path of training",
                caption="The training loss over a plane in the space of weights, dark where it is high. The path is "
                "that of the weights, projected onto the two directions in which they moved most. {runs}",
            ),
        ),
    ),
}
