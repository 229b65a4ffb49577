"""Options: one flat TOML file, every fault reported at once, the same file read back."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainfilm.config import SECTION_OF, SECTIONS, RunOptions, option_fields, options_schema, read_options
from plainfilm.errors import UsageError


def fault(values) -> str:
    with pytest.raises(UsageError) as caught:
        RunOptions.from_flat(values)
    assert caught.value.code == "OPT_INVALID"
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_fault_is_reported_at_once_with_the_nearest_name():
    said = fault({"epoch": 3, "lerning_rate": 0.1, "epochs": 0, "optimizer": "adamx", "patience": "soon"})

    assert "no option named 'epoch'. Did you mean 'epochs'?" in said
    assert "no option named 'lerning_rate'. Did you mean 'learning_rate'?" in said
    assert "epochs: input should be greater than or equal to 1, not 0" in said
    assert "optimizer: input should be 'adamw', 'adam' or 'sgd', not 'adamx'" in said
    assert "patience: " in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", []),
        ("epochs", 10_001),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("test_fraction", 0.0),
        ("label_smoothing", 1.0),
        ("seed", -1),
        ("seed", 2**32),
        ("image_size", 8),
        ("augment", "perhaps"),
        ("images", 3),
        ("folds", 1),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    assert fault({name: value}).startswith(f"{name}: ")


def test_no_option_has_the_name_of_another_and_each_is_explained():
    assert len(SECTION_OF) == sum(len(options.model_fields) for options in SECTIONS.values())
    for name, field in option_fields().items():
        assert field.description, name
        assert field.description.rstrip("*").endswith("."), name  # a star: a convention of our own


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 10_000),
            "learning_rate": st.floats(1e-9, 1e9),
            "optimizer": st.sampled_from(["adamw", "sgd"]),
            "augment": st.booleans(),
            "label_column": st.text(),
            "images": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
            "weights": st.text(),
            "seed": st.integers(0, 2**32 - 1),
        },
    )
)
def test_options_written_as_toml_are_read_back_equal(values):
    options = RunOptions.from_flat(values)

    again = tomllib.loads(options.to_toml(data="x y\n\"'"))

    assert again.pop("data") == "x y\n\"'"
    assert RunOptions.from_flat(again) == options


def test_flat_options_make_the_same_options():
    options = RunOptions.from_flat({"epochs": 3, "horizontal_flip": True})

    assert RunOptions.from_flat(options.flat()) == options
    assert options.training.epochs == 3
    assert options.augment.horizontal_flip


def test_options_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        RunOptions().training.epochs = 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs = ", "is not a TOML file"),
        ("epochs = 1\nepochs = 2", "is not a TOML file"),
        ("[training]\nepochs = 3", "section \\[training\\]"),
        ("\x80", "is not a TOML file"),
    ],
)
def test_a_file_that_is_no_flat_toml_is_refused(tmp_path, content, said):
    path = tmp_path / "options.toml"
    path.write_text(content, "latin-1")

    with pytest.raises(UsageError, match=said) as caught:
        read_options(path)
    assert caught.value.code == "OPT_FILE"


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(UsageError) as caught:
            read_options(path)
        assert caught.value.code == "OPT_FILE"


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "options.toml"
    path.write_text("epochs = 3\n", "utf-8-sig")

    assert read_options(path) == {"epochs": 3}


def test_the_schema_names_every_option_with_its_default():
    schema = json.loads(options_schema())

    assert schema["properties"].keys() == SECTION_OF.keys()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["epochs"]["default"] == 20
    assert schema["properties"]["optimizer"]["enum"] == ["adamw", "adam", "sgd"]
