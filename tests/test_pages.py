"""What all offline pages share: their look, and the environment in which no value becomes markup."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from plainfilm import plots
from plainfilm.pages import page_environment, page_style


def test_every_color_of_a_drawing_has_its_place_in_the_style():
    style = page_style()

    for variable in plots.THEME.values():
        assert style.count(f"{variable}: ") == 2  # once for light, once for dark


def test_a_value_is_never_markup_and_hides_no_character():
    page = page_environment().from_string("<p>{{ value }}</p>").render(value="<b>\u202eabc</b>")

    assert "<b>" not in page
    assert "\u202e" not in page


def test_a_name_that_a_page_was_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        page_environment().from_string("{{ nothing }}").render()
