"""Config files and flags: everything wrong is found at once, and only what can change a result is identity."""

import ml_collections
import numpy as np
import pytest

from flatwide import config as configs
from flatwide.config import checks
from flatwide.runs import identity, preview


def faults_of(**fields) -> list[str]:
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(fields)
    return caught.value.faults


def identity_of(**fields):
    return identity.identity(configs.resolve(fields), "data")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rho": -0.1}, "config.rho=-0.1: expected a number >= 0 (0 is the base optimizer alone)."),
        ({"rho": float("nan")}, "config.rho=nan: expected a number >= 0"),
        ({"rho": "big"}, "config.rho='big': expected a number >= 0"),
        (
            {"optimizer": "samm"},
            "config.optimizer='samm' is not known. Did you mean 'sam'? Known: adam, adamw, sam, sgd.",
        ),
        ({"model": "ResNet81"}, "config.model='ResNet81' is not known. Did you mean 'ResNet18'?"),
        ({"dataset": "minst"}, "config.dataset='minst' is not known. Did you mean 'mnist'?"),
        ({"lr_scheduler": "cosin"}, "Did you mean 'cosine'?"),
        ({"sam_variant": "adaptiv"}, "Did you mean 'adaptive'?"),
        ({"pruner": "snap", "sparsity": 0.5}, "config.pruner='snap' is not known. Did you mean 'snip'?"),
        ({"loss": "crossentropy"}, "Did you mean 'cross_entropy'?"),
        ({"num_neurons": (300, 0)}, "config.num_neurons=(300, 0): expected integers >= 1."),
        ({"num_neurons": (300.0, 1)}, "config.num_neurons=(300.0, 1): expected integers >= 1."),
        ({"num_filters": True}, "config.num_filters=True: expected an integer >= 1."),
        ({"sparsity": 1.0, "pruner": "random"}, "config.sparsity=1.0: expected a fraction in [0, 1)."),
        ({"sparsity": 0.5}, "config.sparsity=0.5 with config.pruner='none': nothing would be pruned"),
        ({"label_noise": 1.5}, "config.label_noise=1.5: expected a fraction in [0, 1]."),
        ({"validation_fraction": 1.0}, "config.validation_fraction=1.0: expected a fraction in [0, 1)."),
        ({"batch_size": 0}, "config.batch_size=0: expected an integer >= 1."),
        ({"batch_size": 1.5}, "config.batch_size=1.5: expected an integer >= 1."),
        ({"num_epochs": 0}, "config.num_epochs=0: expected an integer in [1, 2^31)."),
        ({"seed": -1}, "config.seed=-1: expected an integer in [0, 2^32)."),
        ({"microbatch": 60}, "config.microbatch=60: expected a divisor of config.batch_size=128."),
        ({"accumulation_steps": 3}, "config.accumulation_steps=3: expected a divisor of config.batch_size=128."),
        ({"nesterov": True, "momentum": 0.0}, "Nesterov needs a momentum > 0."),
        ({"adam_betas": (0.9,)}, "config.adam_betas=(0.9,): expected two numbers in [0, 1)."),
        ({"gradient_clip": 0.0}, "config.gradient_clip=0.0: expected a number > 0 or None."),
        ({"num_train_steps": 3_000_000_000}, "config.num_train_steps=3000000000: expected an integer in [1, 2^31)"),
        (
            {"layer_scales": ("a=1",), "sam_variant": "adaptive"},
            "which does not read it; set config.sam_variant='layerwise'",
        ),
        ({"sed": 1}, "config field='sed' is not known. Did you mean 'seed'? Known: seed and "),
        ({"batch_siz": 1}, "Did you mean 'batch_size'? Known: batch_size, "),
        ({1: 2}, "config field=1 is not known. Known: accumulation_steps"),
        ({"threads": 100_000}, "config.threads=100000: expected an integer in [1, 1024] or None."),
        ({"num_neurons": np.zeros((2, 2), int)}, "config.num_neurons=([0, 0], [0, 0]): expected integers >= 1."),
        ({"seed": np.arange(2)}, "config.seed=[0, 1]: expected an integer in [0, 2^32)."),
        ({"rho": 10**400}, "expected a number >= 0"),
        ({"num_neurons": (2**63,)}, "expected integers >= 1. Integers in a config must be below 2^32."),
        ({"seed": 16**5000}, "config.seed=a int that cannot be printed (ValueError): expected an integer"),
        ({"dataset": "x" * 5000}, "(5,002 characters) is not known. Known: "),
        ({"model": "nowhere.py:mine"}, "nowhere.py'; give a path to a Python file that exists."),
    ],
)
def test_a_fault_names_value_expectation_and_mend(fields, message):
    with pytest.raises(configs.ConfigError) as error:
        configs.resolve(fields)
    (fault,) = error.value.faults
    assert message in fault


def test_all_faults_come_at_once():
    assert len(faults_of(rho=-1.0, batch_size=0, seed="x", num_neurons=())) == 3
    assert len(faults_of(rho=-1.0, microbatch=3, sparsity=0.5)) == 3
    assert len(faults_of(model="x", dataset="y", optimizer="z")) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("(30,10)", (30, 10)), ("[30, 10]", (30, 10)), ("30,10", (30, 10)), ("30", (30,)), ("()", ())],
)
def test_a_tuple_is_read_from_a_flag(text, value):
    values, faults = configs.override({}, [("num_neurons", text)])
    assert (values, faults) == ({"num_neurons": value}, [])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "1", 1.0),
        ("learning_rate", "1e-3", 1e-3),
        ("seed", "0x10", 16),
        ("nesterov", "true", True),
        ("train_examples", "None", None),
        ("data_dir", "/some/where", "/some/where"),
        ("layer_scales", "('a=1','b=2')", ("a=1", "b=2")),
        ("layer_scales", "a.*=1,b=2", ("a.*=1", "b=2")),
        ("layer_scales", "(a|b)/kernel=0.5", ("(a|b)/kernel=0.5",)),
    ],
)
def test_a_flag_has_the_type_of_its_field(name, text, value):
    values, faults = configs.override({}, [(name, text)])
    assert (values, faults) == ({name: value}, [])
    assert type(values[name]) is type(value)


@pytest.mark.parametrize("text", ["-" * 6000, "(" * 3000, "{[]: 1}", "\0", "9" * 5000])
def test_a_flag_that_no_parser_takes_is_a_fault(text):
    _, (fault,) = configs.override({}, [("num_neurons", text)])
    assert fault.startswith("config.num_neurons=")
    assert fault.endswith(": expected integers >= 1.")
    assert len(fault) < 300
    values, faults = configs.override({}, [("study.axes.num_neurons", text)])
    assert (values, faults) == ({"study": {"axes": {"num_neurons": text}}}, [])


@pytest.mark.parametrize(("text", "value"), [("range(3)", (0, 1, 2)), (" range(2, 9,3)", (2, 5, 8)), ("range(0)", ())])
def test_an_axis_can_be_a_range(text, value):
    values, faults = configs.override({}, [("study.axes.seed", text)])
    assert faults == []
    assert configs.plain(values)["study"]["axes"]["seed"] == value
    assert configs.plain({"study": {"axes": {"seed": value}}}) == configs.plain(values)


@pytest.mark.parametrize("text", ["range(1.5)", "range(a)", "range(1,2,0)", "range(1,2,3,4)"])
def test_what_is_no_range_stays_a_text_that_a_study_refuses(text):
    values, _ = configs.override({}, [("study.axes.seed", text)])
    assert values["study"]["axes"]["seed"] == text


def test_an_array_is_the_numbers_that_it_holds():
    assert configs.resolve({"num_neurons": np.array([4, 4])})["num_neurons"] == (4, 4)
    assert configs.resolve({"num_neurons": np.array([4])})["num_neurons"] == (4,)


@pytest.mark.parametrize(("name", "text"), [("seed", "1.5"), ("seed", "1e3"), ("rho", "abc"), ("nesterov", "maybe")])
def test_a_flag_that_cannot_be_read_is_a_fault(name, text):
    _, (fault,) = configs.override({}, [(name, text)])
    assert fault.startswith(f"config.{name}={text!r}: expected ")


def test_names_and_minus_ones_of_the_original_are_accepted():
    config = configs.resolve(
        {
            "model": "ResNet50_ImageNet",
            "dataset": "imagenet2012",
            "lr_scheduler": "imagenet_cosine",
            "num_train_steps": -1,
            "steps_per_eval": -1,
        }
    )
    assert (config.model, config.lr_scheduler) == ("ResNet50", "cosine")
    assert config.num_train_steps is None
    assert config.steps_per_eval is None


def test_numpy_scalars_are_numbers():
    config = configs.resolve({"rho": np.float64(0.1), "seed": np.int64(3)})
    assert (config.rho, config.seed) == (0.1, 3)
    assert (type(config.rho), type(config.seed)) == (float, int)


def test_parents_of_the_same_name_are_told_apart(tmp_path):
    for folder, rho in (("one", 0.1), ("other", 0.9)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "base.py").write_text(f"rho = {rho}")
        (tmp_path / folder / "variant.py").write_text("import base\ndef get_config():\n    return {'rho': base.rho}")
    assert configs.load_file(str(tmp_path / "one" / "variant.py")) == {"rho": 0.1}
    assert configs.load_file(str(tmp_path / "other" / "variant.py")) == {"rho": 0.9}


def test_a_field_of_the_users_own_is_set_by_a_flag(tmp_path):
    user_file = tmp_path / "own.py"
    user_file.write_text("def tiny(example, num_outputs, *, my_width=3):\n    return None\n")
    values, faults = configs.override({}, [("my_width", "7"), ("model", f"{user_file}:tiny")])
    assert faults == []
    assert values["my_width"] == 7
    assert configs.resolve({"model": f"{user_file}:tiny"}).my_width == 3


def test_a_field_that_an_own_file_needs_is_asked_for(tmp_path):
    user_file = tmp_path / "own.py"
    user_file.write_text("def tiny(example, num_outputs, *, my_width):\n    return None\n")
    assert "config.my_width is missing" in faults_of(model=f"{user_file}:tiny")[0]


@pytest.mark.parametrize("given", ["Net", "net"])
def test_a_module_that_is_no_model_is_refused_in_one_line(tmp_path, given):
    user_file = tmp_path / "own.py"
    user_file.write_text(
        "from flax import nnx\n"
        "class Net(nnx.Module):\n    def __init__(self, size, *, rngs):\n        pass\n"
        "def net(example, num_outputs):\n    return Net(3, rngs=nnx.Rngs(0))\n"
    )
    with pytest.raises(configs.ConfigError) as error:
        preview.sizes(configs.resolve({"model": f"{user_file}:{given}", "dataset": "digits"}))
    what = "is a class" if given == "Net" else "returned Net"
    assert error.value.faults == [
        f"config.model='{user_file}:{given}' {what}; expected a function of (example, num_outputs) that returns a "
        "Model. docs/extending.md makes one of a module of flax.linen, Flax NNX or Equinox."
    ]


def test_lists_of_an_original_config_become_tuples():
    original = ml_collections.ConfigDict({"num_neurons": [300, 100], "learning_rate": 1})
    config = configs.resolve(original)
    assert config.num_neurons == (300, 100)
    assert type(config.learning_rate) is float


@pytest.mark.parametrize("name", configs.SCHEMA)
def test_a_default_is_a_valid_value_in_canonical_form(name):  # so it is not checked again for each run of a study
    default = configs.SCHEMA[name].default
    assert checks.check_field(name, default, configs.SCHEMA[name]) == (default, None)


def test_a_default_config_is_locked():
    with pytest.raises(AttributeError, match="seed"):
        configs.default().sed = 1


def test_identity_of_sgd_is_sam_at_rho_zero():
    sgd = identity_of(optimizer="sgd", rho=0.3, sam_variant="adaptive")
    assert sgd == identity_of(optimizer="sam", rho=0.0, base_optimizer="sgd")
    assert sgd != identity_of(optimizer="sam", rho=0.1)
    assert sgd != identity_of(optimizer="sam", base_optimizer="adam", rho=0.0)
    assert identity_of(optimizer="adam") == identity_of(optimizer="sam", base_optimizer="adam", rho=0.0)


def test_microbatches_matter_without_sam_too():
    """Batch norm and dropout see the pieces."""
    assert identity_of(rho=0.0, microbatch=64) != identity_of(rho=0.0)


def test_identity_drops_what_is_not_read():
    plain = identity_of()
    assert identity_of(pruner="snip", snip_batches=7) == plain
    assert identity_of(num_filters=3) == plain  # an MLP has no filters
    assert identity_of(adam_betas=(0.5, 0.5)) == plain
    assert identity_of(augment=False) == plain  # digits are never augmented
    assert identity_of(microbatch=128) == plain
    assert identity_of(rho_switch=0.9, rho_every=7, surrogate_gap_weight=0.1) == plain
    assert identity_of(rho=0.0, rho_schedule="late", rho_switch=0.9) == identity_of(rho=0.0)
    late = {"rho_schedule": "late"}
    assert identity_of(**late, rho_every=7) == identity_of(**late) != identity_of(**late, rho_switch=0.9)
    assert identity_of(num_train_steps=5, num_epochs=1) == identity_of(num_train_steps=5, num_epochs=2)


@pytest.mark.parametrize("field", ["data_dir", "log_every_steps", "checkpoint_every_seconds", "restore_checkpoint"])
def test_identity_leaves_out_what_only_watches(field):
    other = {"data_dir": "x", "log_every_steps": 7, "checkpoint_every_seconds": 3.0, "restore_checkpoint": False}
    assert identity_of(**{field: other[field]}) == identity_of()


@pytest.mark.parametrize(
    "change",
    [
        {"num_neurons": (5,)},
        {"rho": 0.3},
        {"seed": 1},
        {"label_noise": 0.5},
        {"learning_rate": 0.2},
        {"weight_decay": 0.1},
        {"sparsity": 0.5, "pruner": "random"},
        {"half_precision": True},
        {"num_epochs": 3},
        {"train_examples": 100},
        {"validation_fraction": 0.1},
        {"momentum": 0.0},
        {"lr_scheduler": "cosine"},
        {"batch_size": 64},
        {"accumulation_steps": 2},
        {"microbatch": 64},
        {"threads": 1},
        {"rho_schedule": "late"},
        {"rho_schedule": "every", "rho_every": 3},
        {"sam_variant": "gsam"},
        {"eval_every_steps": 3},
    ],
)
def test_identity_covers_what_can_change_a_result(change):
    assert configs.digest(identity_of(**change)) != configs.digest(identity_of())


def test_identity_covers_the_data_and_an_own_file(tmp_path):
    user_file = tmp_path / "mine.py"
    user_file.write_text("def mine(rho):\n    from flatwide import sam\n    return sam.normalized(rho)\n")
    fields = configs.resolve({"sam_variant": f"{user_file}:mine"})
    first = identity.identity(fields, "data")
    user_file.write_text(user_file.read_text() + "# changed\n")
    assert identity.identity(fields, "data") != first
    assert identity.identity(fields, "other data") != identity.identity(fields, "data")


def test_identity_without_an_ascent_has_nothing_of_the_variant(tmp_path):
    user_file = tmp_path / "own.py"
    user_file.write_text(
        "from flatwide import sam\n\ndef slow(rho, *, slowness: int = 3):\n    return sam.normalized(rho)\n"
    )
    variant = {"sam_variant": f"{user_file}:slow", "slowness": 5}
    plain = identity_of(optimizer="sgd")
    assert identity_of(optimizer="sgd", **variant) == identity_of(rho=0.0, **variant) == plain
    assert identity_of(rho=0.0, sam_variant="layerwise", layer_scales=("output=2",)) == plain
    assert {"sam_variant", "sam_variant_file", "slowness"} <= identity_of(rho=0.1, **variant).keys()


def test_identity_has_an_optimizers_field_that_an_own_variant_reads(tmp_path):
    user_file = tmp_path / "own.py"
    user_file.write_text(
        "from flatwide import sam\n\ndef mine(rho, *, momentum=0.9):\n    return sam.normalized(rho)\n"
    )
    variant = {"sam_variant": f"{user_file}:mine", "base_optimizer": "adam", "rho": 0.1}
    assert identity_of(**variant, momentum=0.5)["momentum"] == 0.5
    assert "momentum" not in identity_of(base_optimizer="adam", rho=0.1, momentum=0.5)


@pytest.mark.parametrize(("model", "blocks"), [("ResNet18", (2, 2, 2, 2)), ("ResNet50", (3, 4, 6, 3))])
def test_identity_of_blocks_spelled_out_is_that_of_their_default(model, blocks):
    plain = identity_of(model=model)
    assert identity_of(model=model, num_blocks=blocks) == plain
    assert identity_of(model=model, num_blocks=(2, 2)) != plain


def test_identity_hashes_only_fields_off_their_default():
    assert set(identity_of()) == {"data"}


def test_a_field_of_the_users_own_is_allowed_where_their_builder_reads_it(tmp_path):
    user_file = tmp_path / "own.py"
    user_file.write_text("def tiny(example, num_outputs, *, my_width=3):\n    return None\n")
    config = configs.resolve({"model": f"{user_file}:tiny", "my_width": 5})
    assert config.my_width == 5
    assert identity.identity(config, "data")["my_width"] == 5
    assert "my_widht" in faults_of(model=f"{user_file}:tiny", my_widht=5)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "AttributeError"),
        ("def get_config():\n    return 1", "get_config() returned int"),
        (
            "import flatwide.config\ndef get_config():\n    c = flatwide.config.default()\n    c.sed = 1\n    return c",
            "sed",
        ),
    ],
)
def test_a_broken_config_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(configs.ConfigError, match="--config=") as caught:
        configs.load_file(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_argument_reaches_the_config_file(tmp_path):
    path = tmp_path / "with_argument.py"
    path.write_text("def get_config(seed='0'):\n    return {'seed': int(seed)}")
    assert configs.load_file(f"{path}:7") == {"seed": 7}
    assert configs.load_file(str(path)) == {"seed": 0}


def test_an_unknown_argument_of_a_config_file_lists_the_known_ones(root):
    message = r"cifar10_vit_width.py:mnist: variant of this config='mnist' is not known. Known: cifar10, digits\."
    with pytest.raises(configs.ConfigError, match=message):
        configs.load_file(f"{root}/configs/studies/cifar10_vit_width.py:mnist")
