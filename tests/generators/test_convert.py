"""Checkpoints of others against StyleGAN2 and 3 as the papers state them, and files that would do harm. B faces."""

import math
import os
import pickle
import struct

import pytest
import torch

from sia_gen import load_generator
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.seeds import normals
from sia_gen.generators.foreign.convert import convert
from sia_gen.generators.foreign.stylegan2 import Scaled, StyleGAN2ADA, StyleGAN2ADAConfig, _streams, doubled
from sia_gen.generators.foreign.stylegan3 import StyleGAN3
from tests.contracts import GeneratorSuite
from tests.generators import stylegan3_reference
from tests.generators.stylegan2_reference import Generator, persist

SIZES = {"channels": (16, 16, 12, 8), "z_dim": 10, "w_dim": 12, "mapping": (12, 12, 12)}


@pytest.fixture
def write(tmp_path):
    """Pickle a network as NVIDIA's tools do, with a source that leaves a trace if it is run."""

    def call(network, name="net.pkl", **beside):
        trace = tmp_path / "ran"
        persist({"G": None, "D": None, "G_ema": network, **beside}, tmp_path / name, f"open({str(trace)!r}, 'w')")
        return tmp_path / name

    return call


@pytest.mark.parametrize(
    "options",
    [
        {}, {"c_dim": 3}, {"architecture": "resnet"}, {"architecture": "orig"}, {"clamp": 0.7},
        {"architecture": "resnet", "clamp": 0.7},
    ],
    ids=str,
)  # fmt: skip
def test_draws_what_the_papers_say(write, tmp_path, options):
    theirs = Generator(**options)
    convert(write(theirs), tmp_path / "out")
    ours = StyleGAN2ADA.load(tmp_path / "out")
    z, condition = torch.randn(3, 10), torch.zeros(3, options.get("c_dim", 0))
    with torch.no_grad():
        w = theirs.mapping(z, condition)
        torch.testing.assert_close(ours.codes(z), w[:, None].repeat(1, 8, 1), atol=1e-5, rtol=0)
        each = torch.randn(3, 8, 12)  # another w for each layer
        torch.testing.assert_close(ours.synthesis(each), theirs.synthesis(each), atol=1e-4, rtol=0)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "options", [{}, {"c_dim": 3}, {"clamp": 0.4}, {"kernel": 1, "radial": True, "base": 512, "most": 32}], ids=str
)
def test_draws_what_the_paper_of_stylegan3_says(write, tmp_path, options):
    theirs = stylegan3_reference.Generator(**options)
    made = convert(write(theirs), tmp_path / "out")
    assert isinstance(made, StyleGAN3)
    ours = load_generator(tmp_path / "out")
    assert ours.resolution == 32
    z, condition = torch.randn(3, 10), torch.zeros(3, options.get("c_dim", 0))
    with torch.no_grad():
        w = theirs.mapping(z, condition)
        torch.testing.assert_close(ours.codes(z), w[:, None].repeat(1, 8, 1), atol=1e-5, rtol=0)
        each = torch.randn(3, 8, 12)
        expected = theirs.synthesis(each)
        torch.testing.assert_close(ours.synthesis(each), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    assert not (tmp_path / "ran").exists()


def test_truncation_pulls_the_first_layers_to_the_mean(write, tmp_path):
    theirs = Generator()
    made = convert(write(theirs), tmp_path / "out")
    cut = StyleGAN2ADA(StyleGAN2ADAConfig(name="cut", **SIZES, psi=0.6, cutoff=3))
    cut.load_state_dict(made.state_dict())
    z = torch.randn(2, 10)
    with torch.no_grad():
        near, far = theirs.mapping(z, None, 0.6), theirs.mapping(z, None)
    torch.testing.assert_close(cut.codes(z)[:, :3], near[:, None].repeat(1, 3, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(cut.codes(z)[:, 3:], far[:, None].repeat(1, 5, 1), atol=1e-5, rtol=0)


def test_a_checkpoint_is_a_generator_and_converted_once(write, tmp_path, monkeypatch):
    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path / "cache"))
    path = write(Generator())
    made = load_generator(str(path))
    (folder,) = (tmp_path / "cache" / "converted").iterdir()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    again = load_generator(str(path))
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp
    assert made.name == again.name == folder.name
    assert torch.equal(made.sample([3]), again.sample([3]))
    assert made.config.source["licence"].startswith("NVIDIA Source Code License")
    assert len(made.config.source["sha256"]) == 64


def rosinality():
    """The tensors of rosinality's format, by those of the reference: the same network under other names."""
    theirs = Generator(channels=(16, 16, 12), layers=2)
    state = {"input.input": theirs.synthesis.b4.const[None]}
    for index in range(2):
        layer = getattr(theirs.mapping, f"fc{index}")
        state |= {f"style.{index + 1}.weight": layer.weight, f"style.{index + 1}.bias": layer.bias}

    def put(place, layer, shown=False):
        state[f"{place}.conv.weight"] = layer.weight[None]
        state[f"{place}.conv.modulation.weight"] = layer.affine.weight
        state[f"{place}.conv.modulation.bias"] = layer.affine.bias
        if shown:
            state[f"{place}.bias"] = layer.bias.view(1, 3, 1, 1)
        else:
            state[f"{place}.activate.bias"], state[f"{place}.noise.weight"] = layer.bias, layer.noise_strength.view(1)

    synthesis = theirs.synthesis
    put("conv1", synthesis.b4.conv1)
    put("to_rgb1", synthesis.b4.torgb, shown=True)
    noises = [synthesis.b4.conv1]
    for index, block in enumerate((synthesis.b8, synthesis.b16)):
        put(f"convs.{2 * index}", block.conv0)
        put(f"convs.{2 * index + 1}", block.conv1)
        put(f"to_rgbs.{index}", block.torgb, shown=True)
        noises += [block.conv0, block.conv1]
    for number, layer in enumerate(noises):
        state[f"noises.noise_{number}"] = layer.noise_const[None, None]
    state = {name: value.detach().clone() for name, value in state.items()}
    return theirs, {"g_ema": state, "latent_avg": theirs.mapping.w_avg}


def test_rosinalitys_format_is_the_same_network(tmp_path):
    theirs, checkpoint = rosinality()
    torch.save(checkpoint, tmp_path / "550000.pt")
    ours = convert(tmp_path / "550000.pt", tmp_path / "out")
    each = torch.randn(2, 6, 12)
    with torch.no_grad():
        torch.testing.assert_close(ours.synthesis(each), theirs.synthesis(each), atol=1e-4, rtol=0)
        w = theirs.mapping(each[:, 0, :10], None)
    torch.testing.assert_close(ours.codes(each[:, 0, :10])[:, 0], w, atol=1e-5, rtol=0)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_file_holds_counts_and_not_its_name(write, tmp_path, zipped):
    _, checkpoint = rosinality()
    torch.save(checkpoint, tmp_path / "theirs.pkl", _use_new_zipfile_serialization=zipped)
    assert convert(tmp_path / "theirs.pkl", tmp_path / "one").resolution == 16
    assert convert(write(Generator(), "nvidia.pt"), tmp_path / "other").resolution == 32


class TestContract(GeneratorSuite):
    @pytest.fixture(params=[{"architecture": "skip"}, {"architecture": "resnet"}, {"noise": "random"}], ids=str)
    def generator(self, request):
        torch.manual_seed(0)
        made = StyleGAN2ADA(StyleGAN2ADAConfig(name="tiny", **SIZES, **request.param))
        with torch.no_grad():
            for block in made.blocks:
                block.second.strength.fill_(1.0)
            for parameter in made.parameters():
                parameter.mul_(0.3)
        return made.eval().requires_grad_(False)


def test_noise_of_its_own_stays_with_a_face_that_is_edited(write, tmp_path):
    torch.manual_seed(0)
    convert(write(Generator()), tmp_path / "out")
    fixed, none = load_generator(f"{tmp_path / 'out'}"), load_generator(f"{tmp_path / 'out'}?noise=none")
    random = load_generator(f"{tmp_path / 'out'}?noise=random")
    for made in (fixed, none, random):
        for block in made.blocks:
            block.second.strength.fill_(0.5)
    codes = random.sample([5, 6])
    (one, other), (without, _) = random.render(codes), none.render(codes)
    assert (one - without).abs().max() > 0.01
    streams = _streams(codes)
    assert len({*streams}) == 2
    for layer in (layer for block in fixed.blocks for layer in (block.first, block.second) if layer is not None):
        layer.noise.copy_(normals(streams[:1], layer.noise.shape, f"noise {layer.place}")[0])
    edits = 0.3 * torch.randn(2, *random.edit_shapes["w"])
    torch.testing.assert_close(random.render(codes[:1]), fixed.render(codes[:1]))
    torch.testing.assert_close(random.render(codes, edits, "w")[0], fixed.render(codes[:1], edits[:1], "w")[0])
    torch.testing.assert_close(random.render(codes, random.carry(edits), "s")[0], random.render(codes, edits, "w")[0])
    assert (random.render(codes[1:]) - fixed.render(codes[1:])).abs().max() > 0.01
    assert not torch.equal(one, other)


class TestContractOfStyleGAN3(GeneratorSuite):
    @pytest.fixture(params=[{}, {"kernel": 1, "radial": True}], ids=["t", "r"])
    def generator(self, write, tmp_path, request):
        return convert(write(stylegan3_reference.Generator(**request.param)), tmp_path / "out")


@pytest.mark.parametrize("family", [Generator, stylegan3_reference.Generator], ids=["2", "3"])
def test_an_edit_in_w_carried_over_to_s_does_the_same(write, tmp_path, family):
    made = convert(write(family()), tmp_path / "out")
    codes, edits = made.sample([0, 1]), 0.3 * torch.randn(2, 8, 12)
    with torch.no_grad():
        by_w, by_s = made.render(codes, edits, "w"), made.render(codes, made.carry(edits), "s")
    torch.testing.assert_close(by_w, by_s, atol=1e-5, rtol=0)
    assert made.edit_shapes["s"][0] == sum(part.affine.out_features for part, _ in made.steered())


def test_the_passes_over_activations_are_what_they_replace():
    torch.manual_seed(0)
    x, scale, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 4, 4), (2, 3), 3)
    )
    assert torch.equal(Scaled.apply(x, scale, None), x * scale[:, :, None, None])
    assert torch.autograd.gradcheck(Scaled.apply, (x, scale, bias))
    assert torch.autograd.gradcheck(Scaled.apply, (x, scale, None))


@pytest.mark.parametrize("taps", [[1.0, 3.0, 3.0, 1.0], [1.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [1.0]], ids=str)
def test_a_picture_is_doubled_by_zeros_between_and_a_filter(taps):
    taps = torch.tensor(taps) / sum(taps)
    x = torch.randn(2, 3, 5, 5)
    wide = x.new_zeros(2, 3, 10, 10)
    wide[..., ::2, ::2] = x
    before, after = (len(taps) + 1) // 2, (len(taps) - 2) // 2
    kernel = (4 * torch.outer(taps, taps)).expand(3, 1, -1, -1)
    expected = torch.nn.functional.conv2d(
        torch.nn.functional.pad(wide, (before, after, before, after)), kernel, groups=3
    )
    torch.testing.assert_close(doubled(x, taps), expected)


def test_weights_lie_as_a_convolution_that_doubles_reads_them(write, tmp_path):
    for made in (convert(write(Generator()), tmp_path / "out"), load_generator(tmp_path / "out")):
        for part in (block.first.conv for block in made.blocks if block.first is not None):
            assert part.weight.transpose(0, 1).is_contiguous(memory_format=torch.channels_last)


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", WorkError, "cannot read"),
        (b"not a pickle", WorkError, "cannot read"),
        (pickle.dumps({"G_ema": 3}), RequestError, "holds no network 'G_ema'"),
        (pickle.dumps([1, 2]), RequestError, "holds no network 'G_ema'"),
        (pickle.dumps({"G_ema": Evil(os.system, ("touch /tmp/ran",))}), WorkError, "names 'posix.system', which"),
        (pickle.dumps({"G_ema": Evil(eval, ("1",))}), WorkError, "names 'builtins.eval', which is none of"),
        (pickle.dumps({"G_ema": Evil(getattr, (1, "real"))}), WorkError, "names 'builtins.getattr'"),
        (b"\x80\x04\x8c\x08training\x8c\x0bos.path.sep\x93.", WorkError, "names 'training.os.path.sep'"),
        (b"\x80\x04\x8c\x05torch\x8c\x04load\x93.", WorkError, "names 'torch.load'"),
        (b"\x80\x04\x8c\x0dtorch.storage\x8c\x0eUntypedStorage\x93.", WorkError, "names 'torch.storage.Unty"),
        (b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".", WorkError, "the opcode LONG_BINPUT 2147483647 is beyond"),
        (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", WorkError, "cannot read"),
        (b"\x80\x02P1\n.", WorkError, "refers to something outside of it"),
        (b"\x80\x04cnumpy\ndtype\n(VO8\nI0\nI1\ntR.", WorkError, "something else than plain numbers"),
        (b"\x80\x04cnumpy\ndtype\n(VV8\nI0\nI1\ntR.", WorkError, "something else than plain numbers"),
        (  # a type whose fields lie far outside of what it has
            b"\x80\x04cnumpy\ndtype\n(Vf4\nI0\nI1\ntR(I3\nV<\nN(Va\nt}I8\nI1\nI0\ntb.",
            WorkError,
            "something else than plain numbers",
        ),
        (  # other defaults for torch's own function
            b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n(N}V__defaults__\n(tstb.",
            WorkError,
            "would change a function",
        ),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_and_nothing_of_it_run(tmp_path, content, error, message):
    (tmp_path / "net.pkl").write_bytes(content)
    with pytest.raises(error) as caught:
        convert(tmp_path / "net.pkl", tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not os.path.exists("/tmp/ran")


def test_a_tensor_that_hides_a_pickle_is_refused(tmp_path):
    inner = pickle.dumps(Evil(os.system, ("touch /tmp/ran",)))
    stream = b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R."
    (tmp_path / "net.pkl").write_bytes(stream)
    with pytest.raises(WorkError, match="cannot read"):
        convert(tmp_path / "net.pkl", tmp_path / "out")
    assert not os.path.exists("/tmp/ran")


@pytest.mark.parametrize("keep", [10, 1000, -50])
def test_a_truncated_pickle_is_one_line(write, tmp_path, keep):
    path = write(Generator())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((WorkError, RequestError)) as caught:
        convert(path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_parts_that_are_missing_or_do_not_fit_are_named(write, tmp_path):
    network = Generator()
    del network.mapping.fc1
    with pytest.raises(WorkError, match="the network has no 'fc1'"):
        convert(write(network), tmp_path / "out")
    network = Generator()
    network.synthesis.b8.conv0.weight = torch.nn.Parameter(torch.randn(3, 3, 3, 3))
    with pytest.raises(WorkError, match="parts do not fit together"):
        convert(write(network), tmp_path / "out")
    network = Generator()
    network.synthesis.L0 = network.synthesis.b4
    for size in (4, 8, 16, 32):
        delattr(network.synthesis, f"b{size}")
    with pytest.raises(RequestError, match=r"a Generator with layers L0 … is no StyleGAN"):
        convert(write(network), tmp_path / "out")
    network = Generator()
    del network.synthesis.b4.torgb.weight
    with pytest.raises(WorkError, match=r"is damaged \(KeyError: 'weight'\)"):
        convert(write(network), tmp_path / "out")
    network = Generator()
    network.synthesis.b32.architecture = ("skip",)
    with pytest.raises(WorkError, match="the network's architecture is a tuple"):
        convert(write(network), tmp_path / "out")


def test_nested_names_do_not_fill_the_memory(tmp_path):
    """A name of forty tuples, each of the one before twice: to write it out would take a terabyte."""
    doubled = b"".join(b"2\x86" for _ in range(40))  # DUP, TUPLE2
    stream = b"\x80\x02ctorch_utils.persistence\n_reconstruct_persistent_obj\n}Vclass_name\nI1\n" + doubled + b"s\x85R."
    (tmp_path / "net.pkl").write_bytes(stream)
    with pytest.raises(RequestError, match="holds no network 'G_ema'"):
        convert(tmp_path / "net.pkl", tmp_path / "out")


@pytest.mark.parametrize("harm", ["plain", "evil", "other", "short", "shape"])
def test_a_pt_of_another_kind_is_refused(tmp_path, harm):
    path = tmp_path / "net.pt"
    if harm == "plain":
        path.write_bytes(b"text")
    elif harm == "evil":
        torch.save({"g_ema": Evil(os.system, ("touch /tmp/ran",))}, path)
    elif harm == "other":
        torch.save({"model": {}}, path)
    elif harm == "shape":
        _, checkpoint = rosinality()
        checkpoint["g_ema"]["conv1.noise.weight"] = torch.zeros(2)
        torch.save(checkpoint, path)
    else:
        _, checkpoint = rosinality()
        del checkpoint["g_ema"]["convs.1.conv.weight"]
        torch.save(checkpoint, path)
    with pytest.raises((WorkError, RequestError)) as caught:
        convert(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert harm != "evil" or "holds more than tensors and numbers" in str(caught.value)
    assert not os.path.exists("/tmp/ran")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(write, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("1")
    with pytest.raises(RequestError, match="is not empty; choose another folder"):
        convert(write(Generator()), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "wrong",
    [{"channels": (8,)}, {"psi": 3}, {"psi": math.nan}, {"architecture": "u"}, {"noise": "x"}, {"label": (1.0,)}],
)
def test_settings_that_are_no_stylegan_are_refused(wrong):
    with pytest.raises(RequestError):
        StyleGAN2ADAConfig(**{"name": "x", **SIZES, **wrong})
