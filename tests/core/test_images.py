import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen.core.errors import WorkError
from sia_gen.core.images import (
    contact_sheet,
    from_bytes,
    from_pil,
    matrix_sheet,
    quantise,
    read_image,
    to_bytes,
    to_pil,
)

EVERY_BYTE = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)


def test_bytes_survive_the_way_to_floats_and_back():
    assert torch.equal(to_bytes(from_bytes(EVERY_BYTE)), EVERY_BYTE)


def test_floats_round_to_the_nearest_byte_and_stay_in_range():
    images = torch.tensor([-0.3, 0.0019, 0.0021, 0.5, 0.9979, 1.7]).view(1, 1, 1, 6)
    assert to_bytes(images).flatten().tolist() == [0, 0, 1, 128, 254, 255]


def test_quantised_is_what_a_png_holds_and_passes_gradients_through():
    images = torch.linspace(-0.1, 1.1, 300).view(1, 3, 10, 10).requires_grad_()
    quantised = quantise(images)
    assert torch.equal(quantised, from_bytes(to_bytes(images)))
    quantised.mul(torch.arange(300.0).view(1, 3, 10, 10)).sum().backward()
    assert images.grad.flatten().tolist() == list(range(300))


def test_pillow_and_back():
    image = from_bytes(EVERY_BYTE)[0] * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    assert torch.equal(from_pil(to_pil(image)), from_bytes(to_bytes(image[None]))[0])
    assert torch.equal(to_bytes(from_pil(to_pil(EVERY_BYTE[0]))), EVERY_BYTE[0])


def test_a_png_is_read_as_it_was_written(tmp_path):
    to_pil(EVERY_BYTE[0]).save(tmp_path / "face.png")
    assert torch.equal(to_bytes(read_image(tmp_path / "face.png")), EVERY_BYTE[0])


def test_what_is_no_image_is_named(tmp_path):
    path = tmp_path / "face.png"
    path.write_text("not an image")
    with pytest.raises(WorkError) as caught:
        read_image(path)
    assert str(caught.value) == (
        f"cannot read '{path}' as an image (cannot identify image file '{path}'); give a PNG or JPEG file"
    )


def test_contact_sheet_lays_rows_under_each_other():
    red, blue = torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    red[:, 0], blue[:, 2] = 1, 1
    sheet = contact_sheet([red, blue], scale=2)
    assert sheet.size == (16, 16)
    pixels = np.asarray(sheet)
    assert (pixels[:8] == (255, 0, 0)).all()
    assert (pixels[8:, :8] == (0, 0, 255)).all()
    assert (pixels[8:, 8:] == 255).all()


def test_contact_sheet_makes_room_for_labels():
    sheet = contact_sheet([torch.zeros(1, 3, 4, 4)], row_labels=["before"], column_labels=["face 0"])
    assert sheet.size == (8 + 6 * 7 + 4, 16 + 4)
    assert isinstance(sheet, Image.Image)


def test_a_matrix_is_blue_over_white_to_red():
    sheet = matrix_sheet(torch.tensor([[1.0, 0.0], [-1.0, -0.001]]), ["a", "bb"], ["left", "right"])
    side = 8 + 7 * 5
    assert sheet.size == (8 + 7 * 2 + 2 * side, 8 + 7 * 5 + 2 * side)
    pixels = np.asarray(sheet)
    corners = pixels[-2 * side + 1 :: side, -2 * side + 1 :: side][:2, :2].astype(int)  # of each cell
    assert corners[0, 0, 0] - corners[0, 0, 2] > 100
    assert corners[1, 0, 2] - corners[1, 0, 0] > 100
    assert (corners[0, 1] == 255).all()
