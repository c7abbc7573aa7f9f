import pytest

from sia_gen.core.errors import RequestError
from sia_gen.service.app.audit_request import AuditRequest

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
