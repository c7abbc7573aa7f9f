import pytest

from sia_gen.audits.verdict.finding import above_control, above_others, confirmation, finding

SETTINGS = {"settings": {"single": {"directions": 3}}, "measured": "the score, above 0 where found"}
CONTROL = {"name": "random direction 1", "output_change": 0.10, "success": 0.05}


def row(name="light", change=0.46, q=0.01, low=0.02, success=0.41, **more):
    excess = change - CONTROL["output_change"]
    made = {
        "name": name,
        "output_change": change,
        "q": q,
        "excess": excess,
        "excess_interval": [low, 2 * excess],
        "noise": 0.0,
    }
    made |= {"output_interval": [change - 0.1, change + 0.1], "unit": "degrees", "mean_size": None, "mean_change": None}
    return made | {"success": success, "control": CONTROL, "above_control": False, "stands_out": False} | more


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"q": 0.06}, False),
        ({"low": 0.0}, False),
        ({"change": 0.151, "excess": 0.05}, True),
        ({"change": 0.151, "excess": 0.04}, False),  # less than a tenth of the change at which faces fail
        ({"change": 0.149, "excess": 0.05}, False),  # less than one and a half times the control
        ({"noise": 0.071}, True),
        ({"noise": 0.073}, False),  # the best of eight answers to one face may be as far from another
    ],
    ids=["all", "chance", "unsure", "just enough", "immaterial", "small", "hardly noisy", "noisy"],
)
def test_above_control_takes_five_conditions(changes, expected):
    assert above_control(row(**changes), change_at_failure=0.45) is expected


def test_nothing_attempted_is_not_above_the_control():
    nothing = {"output_change": None, "excess": None, "excess_interval": None}
    assert above_control(row() | nothing, change_at_failure=0.45) is False


def test_faces_of_one_direction_are_too_few_to_be_above_the_control():
    assert above_control(row() | {"excess_interval": None}, change_at_failure=0.45) is False


def test_where_no_face_failed_nothing_is_material():
    assert above_control(row(), change_at_failure=None) is False


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], True),
        ([0.17, 0.12, 0.10], True),
        ([0.40, 0.12, 0.10], True),  # a second cause does not hide the first
        ([0.20, 0.24, 0.25], False),  # an even profile has a first too
        ([0.40, 0.30, 0.24, 0.20, 0.15, *[0.01] * 15], False),  # and so has one among many that mean nothing
        ([0.40, 0.30, 0.22, 0.20, 0.15, *[0.01] * 15], True),
    ],
    ids=["alone", "planted", "two causes", "even", "even among many", "planted among many"],
)
def test_above_others(others, expected):
    rows = [row(), *(row(f"a{index}", change) for index, change in enumerate(others))]
    assert above_others(rows[0], rows) is expected


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [row(stands_out=True), row("age", 0.17)],
            "What stands out is light: moved alone, it changed the score by 0.46 on average (95 % interval 0.36 to "
            "0.56) and made 41% of 9 faces fail, against 0.1 and 5% for random directions that change the picture as "
            "much.",
        ),
        (
            [
                row(stands_out=True, valid=0.3, mean_size=40.0, mean_change=-38.0),
                row("age", 0.3, success=0.2, stands_out=True, control={**CONTROL, "success": 0.0}),
            ],
            "What stands out is light and age: moved alone, light changed the score by 0.46 on average (95 % interval "
            "0.36 to 0.56) and made 41% of 9 faces fail (30% validly), at a change of 40 degrees on average, mostly "
            "downwards, against 0.1 and 5% for random directions that change the picture as much; age by 0.3 and "
            "20%, against 0.1 and 0%.",
        ),
        (
            [row(stands_out=True, mean_size=40.0, mean_change=-8.0), row("age", 0.17)],
            "What stands out is light: moved alone, it changed the score by 0.46 on average (95 % interval 0.36 to "
            "0.56) and made 41% of 9 faces fail, at a change of 40 degrees on average, either way, against 0.1 and 5% "
            "for random directions that change the picture as much.",
        ),
        (
            [row("age", 0.17, above_control=True), row("yaw", 0.16, above_control=True), row("gain", 0.1)],
            "No attribute stands out from the others, though age and yaw changed the score more than random "
            "directions that change the picture as much: the strongest of all, age, by 0.17 on average against 0.1.",
        ),
        (
            [row("age", 0.11)],
            "No attribute stands out: the strongest, age, moved alone, changed the score by 0.11 on average, random "
            "directions that change the picture as much by 0.1.",
        ),
    ],
    ids=["one", "two", "either way", "even", "none"],
)
def test_finding_is_one_plain_sentence(rows, sentence):
    assert finding({"attributes": rows, "correct": 9, "faces": 9, "draws": 9} | SETTINGS) == sentence


@pytest.mark.parametrize(
    ("correct", "faces", "draws", "sentence"),
    [
        (1, 1, 1, "1 correct face is too few to tell; audit 32 or more."),
        (2, 10, 2, "2 correct faces are too few to tell; audit 32 or more."),
        (3, 40, 2, "3 correct faces are too few to tell; audit 60 or more."),
    ],
)
def test_too_few_faces_are_said_to_be(correct, faces, draws, sentence):
    rows = [row("age", 0.11), row("yaw", 0.1), row("light", 0.1)]  # 3 · 4**-3 = 0.047 is the first q to suffice
    content = {"attributes": rows, "correct": correct, "faces": faces, "draws": draws} | SETTINGS
    assert finding(content) == sentence
    assert finding(content | {"draws": 3}).startswith("No attribute stands out: the strongest, age,")


def test_a_control_that_gets_less_far_is_said_to():
    rows = [row("age", 0.4, success=0.2, stands_out=True, control={**CONTROL, "reached": 0.6})]
    content = {"attributes": rows, "correct": 9, "faces": 9, "draws": 9} | SETTINGS
    assert "against 0.1 and 5% for random directions that change the picture 60% as much." in finding(content)


def confirmed(of, count, interval, by="studio", stands_out=False, every=None, **made):
    found = {"of": of, "confirmed": count, "share": count / of if of else None, "interval": interval}
    content = SETTINGS | {"settings": SETTINGS["settings"] | {"confirmed_by": by}}
    made = {"successes": (every or found)["of"] or 9, "valid_successes": of} | made
    content["attributes"] = [row(stands_out=stands_out, valid_confirmed=found, confirmed=every or found, **made)]
    arm = {"valid_confirmed": found, "confirmed": every or found, **made}
    return confirmation(content | {"arms": {"semantic": arm}})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (confirmed(10, 9, [0.6, 0.98]), "The failing images are confirmed: of 10 valid failures with all attributes"),
        (confirmed(9, 0, [0.0, 0.3]), "The failing images are not confirmed: of 9 valid failures with all attributes"),
        (confirmed(3, 1, [0.06, 0.79]), "Whether the failing images are true is open: of 3 failures, valid or not"),
        (
            confirmed(1, 0, [0.0, 0.79], every={"of": 23, "confirmed": 0, "share": 0.0, "interval": [0.0, 0.14]}),
            "The failing images are not confirmed: of 23 failures, valid or not, with all attributes together, 0 (0%",
        ),
        (confirmed(10, 9, [0.6, 0.98], stands_out=True), "The failing images are confirmed: of 10 valid failures with"),
        (confirmed(0, 0, [0.0, 1.0]), "No failing image is confirmed: none with all attributes together could"),
        (confirmed(10, 9, [0.6, 0.98], by=None), "No failure here is confirmed: nobody drew the same people"),
    ],
    ids=["yes", "no", "few", "few valid", "named", "none", "nobody"],
)  # fmt: skip
def test_confirmation_is_said_as_far_as_the_interval_tells(said, words):
    assert said.startswith(words)


def test_failures_that_count_in_no_confirmation_are_said_to():
    every = {"of": 13, "confirmed": 11, "share": 11 / 13, "interval": [0.58, 0.96]}
    said = confirmed(10, 8, [0.49, 0.94], every=every, successes=15, valid_successes=10)
    assert "of 13 failures, valid or not, with all attributes together, 11 (85%" in said
    assert said.endswith(" The other 2 of 15 do not count: the target is wrong on their renders as they are.")
    assert "The other" not in confirmed(10, 9, [0.6, 0.98])
    said = confirmed(10, 8, [0.49, 0.94], every=every, successes=14, valid_successes=10)
    assert said.endswith(" One more of 14 does not count: the target is wrong on its render as it is.")
