"""What the tables hold: an extractor each, the right arithmetic, and floors that are named where they win."""

from __future__ import annotations

from m2m.evaluation.report import layout
from m2m.evaluation.report.glossary import EXTRACTORS, MEASURES, explained, extractor_explained, shown_name
from m2m.evaluation.result import Better, Measure, Result, Role, Row, Table
from tests.evaluation.report.samples import ALONE, COPY, DINO, KINDS, REAL, SELF, sample_result

LABEL = "FD (inception)"


def result_of(better: Better = "lower", **rows: tuple[float | None, ...]) -> Result:
    """A result of one measure; the first letter of a row's name is its role's: m, f, c."""
    roles: dict[str, Role] = {"m": "model", "f": "floor", "c": "ceiling"}
    found = [Row(name, roles[name[0]], (Measure("FD", "inception", better, own),)) for name, own in rows.items()]
    positions = tuple(range(1, 1 + len(found[0].measures[0].values)))
    return Result("", "", "", "generated image", positions, tuple(found), "", {}, {})


def test_every_extractor_has_a_table_of_its_own() -> None:
    """Guards against numbers of two extractors side by side, and tables of thirty columns."""
    result = sample_result()
    groups = layout.by_extractor(result)
    assert list(groups) == ["efficientnet-lite0", "clip:ViT-B/32", "truth probe", "pixels"]
    assert [len(own) for own in groups.values()] == [5, 3, 5, 1]
    sheet = layout.summary(result, groups["clip:ViT-B/32"])
    assert sheet.heads == ("", "Text-Image CLIP ↑", "Image-Image CLIP ↑", "CMMD ↓")


def test_rows_are_models_then_ceilings_then_floors() -> None:
    """Guards against floors between the models that they are compared with."""
    lines = layout.summary(sample_result(), ["FD (efficientnet-lite0)"]).lines
    assert [line.name for line in lines[:4]] == [SELF, DINO, REAL, COPY]
    assert [line.role for line in lines] == ["model", "model", "ceiling", "floor", "floor", "floor"]


def test_cells_are_mean_and_deviation_as_in_table_1() -> None:
    """Guards against a population's deviation, a mark that stands at random, and a best of one."""
    sheet = layout.summary(result_of(m=(8, 6, 4, 2), f=(9, 9, 9, 9)), [LABEL])
    assert [line.cells[0] for line in sheet.lines] == [layout.Cell("5.00 ± 2.58"), layout.Cell("9.00 ± 0.00")]
    assert sheet.heads == ("", "FID ↓")
    assert sheet.notes == ()


def test_the_best_model_is_marked_by_the_direction_of_the_measure() -> None:
    """Guards against the largest FD as the best, and against floors and ceilings as the best."""
    rows = {"m1": (3.0, 3.0), "m2": (5.0, 5.0), "c": (0.0, 0.0), "f": (9.0, 9.0)}
    assert layout.best_model(result_of("lower", **rows), LABEL) == "m1"
    assert layout.best_model(result_of("higher", **rows), LABEL) == "m2"
    assert layout.best_model(result_of("", **rows), LABEL) is None
    marked = [line.name for line in layout.summary(result_of("lower", **rows), [LABEL]).lines if line.cells[0].best]
    assert marked == ["m1"]


def test_a_floor_that_does_as_well_is_named() -> None:
    """Guards against a table that praises a model for what a copy has too."""
    assert layout.equalled_by(result_of("lower", m1=(3.0,), m2=(1.0,), f1=(3.0,), f2=(4.0,)), LABEL) == {"m1": ["f1"]}
    assert layout.equalled_by(result_of("higher", m1=(3.0,), f1=(3.5,), f2=(2.0,)), LABEL) == {"m1": ["f1"]}
    assert layout.equalled_by(result_of("", m1=(3.0,), f1=(3.0,)), LABEL) == {}
    assert layout.equalled_by(result_of("lower", m1=(3.0,), f1=(None,)), LABEL) == {}
    result = sample_result()
    sheet = layout.summary(result, [label for label in result.labels if label.startswith(("near", "subject"))])
    assert sheet.lines[0].cells[0].text.endswith(layout.FLOOR_MARK)
    assert not sheet.lines[2].cells[0].text.endswith(layout.FLOOR_MARK)
    assert any(f"{COPY} (subject)" in note and f"{ALONE} (near-copies)" in note for note in sheet.notes)


def test_change_says_first_last_their_difference_and_the_slope() -> None:
    """Guards against a first position that has no value, and must not count as 0."""
    (line,) = layout.change(result_of(m=(8, 6, 4, 2)), [LABEL]).lines
    assert line.cells[0] == layout.Cell("8.00 → 2.00", "(first - last 6.00, slope -2.000)")
    (line,) = layout.change(result_of(m=(None, 6, 4, 2)), [LABEL]).lines
    assert line.cells[0] == layout.Cell("6.00 → 2.00", "(first - last 4.00, slope -2.000, from 2 to 4)")


def test_a_long_sequence_is_thinned_to_twelve_columns_with_both_ends() -> None:
    """Guards against tables that no page holds, and against a last image that is not shown."""
    sheet = layout.by_position(sample_result(range(1, 26)), "subject (truth probe)")
    assert len(sheet.heads) == 13
    assert (sheet.heads[1], sheet.heads[-1]) == ("1", "25")
    assert len({*sheet.heads}) == 13
    assert all(len(line.cells) == 12 for line in sheet.lines)
    assert "12 of the 25" in " ".join(layout.change(sample_result(range(1, 26)), ["subject (truth probe)"]).notes)


def test_values_stand_at_their_positions_with_their_intervals() -> None:
    """Guards against numbers moved by a position without a value, and bounds of another position."""
    own = Measure("FD", "inception", "lower", (None, 2.0), (None, 1.5), (None, 2.5))
    result = Result("", "", "", "generated image", (1, 2), (Row("m", "model", (own,)),), "", {}, {})
    (line,) = layout.by_position(result, LABEL).lines
    assert line.cells == (layout.Cell("-"), layout.Cell("2.00", "(1.50 to 2.50)"))
    (line,) = layout.by_position(result, LABEL, bounds=False).lines
    assert line.cells == (layout.Cell("-"), layout.Cell("2.00"))


def test_numbers() -> None:
    """Guards against "-0.00", and against small numbers that are all shown as 0.00."""
    assert layout.number(-0.001) == "0.00"
    assert layout.number(None) == "-"
    assert layout.number(-2.345, 1) == "-2.3"
    assert layout.decimals([None, 0.02, -0.4]) == 4
    assert layout.decimals([0.02, 8.88]) == 2
    assert layout.decimals([0.0, None]) == 2


def test_columns_of_words_are_told_from_columns_of_numbers() -> None:
    """Guards against sentences that are set like numbers."""
    cells = (("a", "12.5 (1 to 2)", "7 dogs", "-", "x"), ("b", "-3", "cats", "1", "2"))
    sheet = layout.plain_sheet(Table("t", ("", "n", "w", "n", "w"), cells, "note"))
    assert layout.is_text(sheet) == [False, True, False, True]
    assert sheet.notes == ("note",)


def test_everything_that_is_measured_is_explained() -> None:
    """Guards against measures that a reader must guess at."""
    assert all(explained(kind.name) and extractor_explained(kind.extractor) for kind in KINDS)
    assert extractor_explained("dinov2:small") == EXTRACTORS["dinov2"]
    assert (explained("something new"), extractor_explained("something new")) == ("", "")
    assert all(line.endswith(".") for line in (*MEASURES.values(), *EXTRACTORS.values()))
    assert shown_name("FD", "inception") == "FID"
    assert shown_name("FD", "clip:inception") == "FD"
