import pytest

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.service.app import audit_request
from sia_gen.service.app.attack_request import AttackRequest
from sia_gen.service.app.audit_request import AuditRequest
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore

VALID = {"generator": "g", "target": "hf:owner/t", "attributes": ("age",)}


def test_the_same_request_has_the_same_name():
    request = AuditRequest(**VALID, faces=8)
    assert request.name == AuditRequest(**VALID, faces=8).name
    assert request.name.startswith("hf-owner-t-8-")
    assert request.name != AuditRequest(**VALID, faces=8, seed=1).name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("faces", 0, "faces=0 should be greater than or equal to 1; change it"),
        ("faces", 257, "faces=257 should be less than or equal to 256; change it"),
        ("steps", 51, "steps=51 should be less than or equal to 50; change it"),
        ("box", 0, "box=0 should be greater than 0; change it"),
        ("epsilon", 9, "epsilon=9 should be less than or equal to 8; change it"),
        ("seed", None, "seed is empty: it should be a valid integer; change it"),
        ("seed", -1, "seed=-1 should be greater than or equal to 0; change it"),
        ("attributes", (), "no attribute is chosen; choose one or more"),
    ],
)
def test_a_value_out_of_range_is_one_line(name, value, message):
    with pytest.raises(RequestError) as error:
        AuditRequest(**{**VALID, name: value})
    assert str(error.value) == message


def test_a_model_that_was_brought_is_known_by_its_name_alone(tmp_path, monkeypatch):
    place, asked = tmp_path / "models" / "mine-1234", AuditRequest(**VALID | {"target": "mine-1234"})

    def audit(generator, target, *given, **more):
        assert target == str(place)
        raise WorkError(f"cannot load '{target}/model.safetensors' (damaged); fetch the file again")

    monkeypatch.setattr(audit_request, "audit", audit)
    before = asked.name
    with pytest.raises(WorkError, match=r"^cannot load 'mine-1234/model.safetensors' \(damaged\); fetch"):
        asked.run(RunStore(tmp_path / "runs"), "cpu", print, lambda name, progress: str(tmp_path / "models" / name))
    place.mkdir(parents=True)
    assert asked.name == before
    with pytest.raises(RequestError, match=r"^unknown target"):
        asked.run(RunStore(tmp_path / "runs"), "cpu", print, Offer(["g"], ["t"]).target)


def test_an_attack_does_not_tell_where_a_model_lies(tmp_path):
    class Models:
        def attacker(self, generator, target):
            raise RequestError(f"'{target}' holds no model; name another")

    with pytest.raises(RequestError, match=r"^'mine-1234' holds no model; name another$"):
        AttackRequest(target="mine-1234").run(Models(), None, print, lambda name, progress: str(tmp_path / name))
