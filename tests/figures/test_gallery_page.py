"""The page of figures: each with its code, which draws it from a work directory, and its picture."""

import re

import pytest

import flatwide

SHOWN = re.compile(
    r"!\[.+\]\((.+\.svg)\)\n\n```python\n"
    r'(flatwide\.draw_figures\("runs/(\w+)".*\)\["(\w+)"\])\n```'
)


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "figures.md").read_text()


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("docs/build/draw_gallery.py")


@pytest.fixture(scope="module")
def workdir(script, tmp_path_factory):
    """Train a study of the gallery with one tiny width and no measurements."""
    folder = tmp_path_factory.mktemp("gallery")
    axes = {"num_neurons": ((2,),), "rho": (0.0, 0.1, 0.2), "seed": (0,)}
    config = script.SMALL["gallery_minima"] | {"num_epochs": 1, "measurements": ()}
    flatwide.run_study(config | {"study": {"axes": axes, "workers": 1}}, folder, quiet=True)
    return folder


def test_the_page_shows_every_figure_with_its_picture(root, page, script):
    shown = [(study, name, picture) for picture, _, study, name in SHOWN.findall(page)]
    drawn = [(study, name, f"gallery/{name}.svg") for study, names in script.FIGURES.items() for name in names]
    assert len(shown) == page.count('flatwide.draw_figures("runs/') - 1  # the first is in a loop
    assert {row for row in shown if row[2].startswith("gallery/")} == set(drawn)
    assert all((root / "docs" / picture).is_file() for *_, picture in shown)
    assert {path.name for path in (root / "docs" / "gallery").iterdir()} == {f"{name}.svg" for _, name, _ in drawn}
    assert re.findall(r"^### `(\w+)`$", page, flags=re.MULTILINE) == [name for _, name, _ in shown]


def test_the_code_of_the_page_draws_figures_of_a_study(page, workdir):
    names = {"gain_by_width", "metric_by_width", "best_rho_by_width", "rho_by_width", "training_curves"}
    codes = [(code, study) for _, code, study, name in SHOWN.findall(page) if name in names]
    assert len(codes) == len(names)
    for code, study in codes:
        figure = eval(code.replace(f"runs/{study}", str(workdir)))
        assert f'["{figure.name}"]' in code
        assert len(figure.data)
    (of_run,) = re.findall(r"```python\n(from pathlib.+?)```", page, flags=re.DOTALL)
    *lines, last = of_run.replace("runs/gallery_minima", str(workdir)).strip().splitlines()
    variables = {}
    exec("\n".join(lines), variables)
    assert eval(last, variables).to_dict()["hconcat"]


def test_a_missing_metric_or_run_is_an_error(workdir, tmp_path):
    with pytest.raises(ValueError, match=r"'test_los' is not known. Did you mean 'test_loss'"):
        flatwide.draw_figures(workdir, metric="test_los")
    with pytest.raises(ValueError, match="expected a work directory with a run"):
        flatwide.draw_figures(tmp_path)
