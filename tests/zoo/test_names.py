import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcr_zoo.errors import InvalidNameError
from deepcr_zoo.zoo.names import ModelRequest, for_task, parse, version_key


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("ACS-WFC-F606W-2-32", ModelRequest("ACS-WFC-F606W-2-32")),
        ("inpaint/ACS-WFC-F606W-3-32@1.0", ModelRequest("ACS-WFC-F606W-3-32", "inpaint", "1.0")),
        ("mask/decam@1", ModelRequest("decam", "mask", "1")),
        ("keck:mask/LRIS-B@2.10", ModelRequest("LRIS-B", "mask", "2.10", "keck")),
    ],
)
def test_a_name_is_split_into_its_parts(text, request_):
    assert parse(text) == request_
    assert request_.text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ACS-WFC", "mask/ACS-WFC"),
        ("inpaint/ACS-WFC@1", "inpaint/ACS-WFC@1"),
        ("keck:LRIS@2.0", "keck:mask/LRIS@2.0"),
        ("keck:inpaint/LRIS", "keck:inpaint/LRIS"),
    ],
)
def test_a_name_without_a_task_means_a_model_for_the_one_that_is_wanted(text, expected):
    assert for_task(text, "mask").text == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mask/",
        "a b",
        "a@",
        "a@x",
        "a@1.2.3",
        "paint/a",
        "../a",
        "a/b",
        "mask/../../etc/passwd",
        "a:b:c",
        "a@1.0 ",
        "-a",
        "a\n",
    ],
)
def test_what_is_not_a_name_is_refused_with_the_grammar_and_an_example(text):
    with pytest.raises(InvalidNameError, match=r"\[REGISTRY:\]\[mask/\|inpaint/\]NAME\[@VERSION\]"):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_either_parsed_or_refused_as_a_name(text):
    try:
        request = parse(text)
    except InvalidNameError:
        return
    assert request.name in text
    assert "/" not in request.name
    assert "." not in request.name


def test_version_1_10_is_newer_than_1_9():
    assert max(["1.9", "1.10", "1.0"], key=version_key) == "1.10"


@pytest.mark.parametrize("version", ["1." + "0" * 5000, "9" * 5000, "1.00000"])
def test_a_version_has_few_digits(version):
    with pytest.raises(InvalidNameError):
        parse(f"NAME@{version}")
