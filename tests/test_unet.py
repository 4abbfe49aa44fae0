"""The network: every parameter has an effect, each block matches its formula, and mismatched inputs are rejected."""

import math

import pytest
import torch
from helpers import noise, tiny_unet

from diffusion_lib import UNet
from diffusion_lib.unet import AttentionBlock, Downsample, ResidualBlock, TimeEmbedding, Upsample, sinusoidal_embedding

X, T, Y = noise(3, 1, 8, 8, dtype=torch.float32), torch.tensor([1, 7, 20]), torch.tensor([0, 1, 2])


def block_input(channels=16, emb=24):
    return noise(2, channels, 4, 4, seed=1, dtype=torch.float32), noise(2, emb, seed=2, dtype=torch.float32)


def awake(block, seed=0):
    """The block with its zero-initialised layers moved away from zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in block.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return block


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(blocks_per_level=2, attention_levels=(0, 1)),
        dict(channel_mults=(1, 1, 2), attention_levels=(), patch_size=1),
        dict(in_channels=3, channel_mults=(2,), attention_levels=(0,), patch_size=4),
    ],
)
def test_every_parameter_affects_the_output(options):
    torch.manual_seed(0)
    network = awake(UNet(**(dict(base_channels=16, num_classes=3) | options)))
    x = noise(4, options.get("in_channels", 1), 16, 16, dtype=torch.float32)
    # all classes and "no class": each row of the class embedding is used
    out = network(x, torch.tensor([1, 5, 9, 20]), torch.tensor([0, 1, 2, -1]))
    assert out.shape == x.shape
    (out * noise(*x.shape, seed=1, dtype=torch.float32)).sum().backward()
    untouched = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7]
    assert untouched == []
    assert (network.class_embedding.weight.grad.abs().amax(dim=1) > 1e-7).all()


def test_timestep_and_class_affect_only_their_own_image():
    network = tiny_unet()
    out = network(X, T, Y)
    other_t, other_y = network(X, torch.tensor([1, 8, 20]), Y), network(X, T, torch.tensor([0, 1, 0]))
    for other, changed in ((other_t, 1), (other_y, 2), (network(X, T, torch.tensor([-1, 1, 2])), 0)):
        difference = (other - out).abs().amax(dim=(1, 2, 3))
        assert difference[changed] > 1e-3
        assert difference[[i for i in range(3) if i != changed]].max() < 1e-5
    torch.testing.assert_close(network(X, T), network(X, T, torch.full((3,), -1)), rtol=0, atol=0)


def test_output_does_not_depend_on_the_batch():
    network = tiny_unet()
    together = network(X, T, Y)
    alone = torch.cat([network(X[i : i + 1], T[i : i + 1], Y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_every_output_pixel_depends_on_every_input_pixel():
    # attention on the coarse level: the gradient of one corner reaches the other
    network = tiny_unet()
    x = noise(1, 1, 32, 32, dtype=torch.float32).requires_grad_()
    network(x, T[:1])[0, 0, 0, 0].backward()
    assert x.grad[0, 0, -1, -1] != 0


def test_skips_carry_details_past_the_coarse_levels():
    network = tiny_unet()
    for blocked in (network.middle, network.upsample[0]):
        hook = blocked.register_forward_hook(lambda module, inputs, out: torch.zeros_like(out))
        difference = (network(X, T) - network(X.roll(1, dims=0), T)).abs().amax(dim=(1, 2, 3))
        hook.remove()
        assert difference.min() > 1e-3


def test_new_network_outputs_zero_and_new_block_is_the_identity():
    assert not tiny_unet(zero=True)(X, T, Y).any()
    h, emb = block_input()
    assert torch.equal(ResidualBlock(16, 16, 24)(h, emb), h)
    assert torch.equal(AttentionBlock(16, 24)(h, emb), h)


def test_blocks_share_a_signature_and_have_the_documented_output_shapes():
    h, emb = block_input()
    for block, shape in (
        (ResidualBlock(16, 32, 24), (2, 32, 4, 4)),
        (AttentionBlock(16, 24), (2, 16, 4, 4)),
        (Downsample(16, 8), (2, 8, 2, 2)),
        (Upsample(16, 8), (2, 8, 8, 8)),
    ):
        assert block(h, emb).shape == shape


@pytest.mark.parametrize("norm_groups", [4, 8])
def test_residual_block_matches_its_formula(norm_groups):
    h, emb = block_input()
    block = awake(ResidualBlock(16, 32, 24, norm_groups=norm_groups))
    silu = lambda x: x * torch.sigmoid(x)  # noqa: E731

    def normalise(norm, x):  # groups of channels, each with mean 0 and variance 1, then weight and bias of each channel
        groups = x.unflatten(1, (norm_groups, -1)).flatten(2)
        z = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return z.view_as(x) * norm.weight[:, None, None] + norm.bias[:, None, None]

    scale, shift = block.scale_shift(silu(emb))[..., None, None].chunk(2, dim=1)
    f = block.conv1(silu(normalise(block.norm1, h)))
    expected = block.shortcut(h) + block.conv2(silu((1 + scale) * normalise(block.norm2, f) + shift))
    torch.testing.assert_close(block(h, emb), expected, rtol=1e-4, atol=1e-5)


def test_attention_weights_match_those_of_the_forward_pass():
    h, emb = block_input(channels=64)
    block = awake(AttentionBlock(64, 24))
    assert block.heads == 2
    weights = block.weights(h)
    assert weights.shape == (2, 2, 16, 16)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 16), rtol=0, atol=1e-5)
    q, k, v = block.queries_keys_values(h)
    # one row by hand: image 1, head 0, position 5
    scores = torch.stack([q[1, 0, 5] @ k[1, 0, j] for j in range(16)]) / math.sqrt(32)
    torch.testing.assert_close(weights[1, 0, 5], scores.exp() / scores.exp().sum(), rtol=1e-4, atol=1e-6)
    attended = (weights @ v).transpose(2, 3).reshape(h.shape)
    for x in (h.detach(), h.detach().requires_grad_()):  # as in sampling, and as in training
        torch.testing.assert_close(block(x, emb), h + block.out(attended), rtol=1e-4, atol=1e-5)


def test_sinusoidal_embedding_is_cosines_then_sines():
    t = torch.tensor([0, 1, 500])
    embedding = sinusoidal_embedding(t, 8)
    for b, time in enumerate(t.tolist()):
        for i in range(4):
            frequency = 10_000 ** (-i / 4)
            assert embedding[b, i].item() == pytest.approx(math.cos(time * frequency), abs=1e-4)
            assert embedding[b, i + 4].item() == pytest.approx(math.sin(time * frequency), abs=1e-4)


def test_time_embedding_distinguishes_all_timesteps():
    torch.manual_seed(0)
    embedding = TimeEmbedding(16, 32)(torch.arange(1, 1001))
    assert torch.pdist(embedding).min() > 1e-4


def test_dropout_is_active_in_training_only():
    network = tiny_unet(dropout=0.5)
    assert not torch.equal(network.train()(X, T, Y), network(X, T, Y))
    assert torch.equal(network.eval()(X, T, Y), network(X, T, Y))


def test_float64_network_outputs_float64():
    network = tiny_unet()
    single = network(X, T, Y)
    torch.testing.assert_close(network.double()(X.double(), T, Y), single.double(), rtol=1e-4, atol=1e-5)


def test_config_rebuilds_the_same_network():
    network = tiny_unet(dropout=0.1)
    again = UNet(**network.config)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.eval()(X, T, Y), network.eval()(X, T, Y))


@pytest.mark.parametrize(
    ("x", "t", "y", "message"),
    [
        (X[..., :6], T, Y, r"images are 8x6; expected multiples of 4 \(patch_size 2, 2 levels\): resize or pad"),
        (X[..., :0], T, Y, r"images are 8x0; expected multiples of 4"),
        (X.repeat(1, 3, 1, 1), T, Y, r"images have shape \(3, 3, 8, 8\); expected \(B, 1, H, W\)"),
        (X, T[:2], Y, r"t has shape \(2,\); expected \(3,\): one timestep per image"),
        (X, T, Y[:2], r"shape \(2,\); expected torch.long of shape \(3,\): one class per image"),
        (X, T, Y.float(), r"y is torch.float32 .*expected torch.long"),
        (X, T, torch.tensor([0, 3, 1]), r"y=3 is out of range; expected classes 0\.\.2, or -1 for no class"),
        (X, T, torch.tensor([0, -2, 1]), r"y=-2 is out of range"),
    ],
)
def test_rejects_mismatched_input(x, t, y, message):
    with pytest.raises(ValueError, match=message):
        tiny_unet()(x, t, y)


def test_unconditional_network_rejects_classes():
    with pytest.raises(ValueError, match="y was given to an unconditional network; expected y=None, or a network built with num_classes"):
        tiny_unet(num_classes=None)(X, T, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(base_channels=12, norm_groups=8), r"base_channels=12; expected a multiple of norm_groups=8"),
        (dict(norm_groups=0), r"norm_groups=0; expected an integer, 1 or more"),
        (dict(channel_mults=()), r"channel_mults has 0 entries; expected 1\.\.8"),
        (dict(channel_mults=[1] * 9), r"channel_mults has 9 entries; expected 1\.\.8"),
        (dict(blocks_per_level=17), r"blocks_per_level=17; expected an integer, 1..16"),
        (dict(base_channels=33, norm_groups=1), r"base_channels=33; expected an even number"),
        (dict(channel_mults=(1, 0)), r"channel_mults\[1\]=0; expected an integer, 1 or more"),
        (dict(attention_levels=(2,)), r"a level in attention_levels=2; expected an integer, 0\.\.1"),
        (dict(dropout=1.0), r"dropout=1.0; expected a probability"),
        (dict(num_classes=0), r"num_classes=0; expected an integer, 1 or more"),
        (dict(patch_size=2.0), r"patch_size=2.0; expected an integer"),
        (dict(blocks_per_level=True), r"blocks_per_level=True"),
    ],
)
def test_rejects_invalid_sizes(options, message):
    with pytest.raises(ValueError, match=message):
        UNet(**options)


@pytest.mark.parametrize(("base_channels", "heads"), [(16, 1), (32, 2), (48, 3), (52, 1), (56, 1), (100, 2)])
def test_attention_works_for_any_even_width(base_channels, heads):
    network = awake(UNet(base_channels=base_channels))
    assert network.middle.attention.heads == heads  # of 32 channels, or as many fewer as share the channels evenly
    assert network(torch.randn(2, 1, 8, 8), torch.tensor([3, 7])).isfinite().all()


def test_every_norm_has_the_requested_number_of_groups():
    for asked in (2, 8):
        norms = [m for m in UNet(base_channels=16, norm_groups=asked).modules() if isinstance(m, torch.nn.GroupNorm)]
        assert len(norms) > 10
        assert {norm.num_groups for norm in norms} == {asked}


def test_weights_and_outputs_are_channels_last():
    network = awake(UNet(base_channels=16))
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
    seen = []
    hooks = [m.register_forward_hook(lambda m, args, out: seen.append(out)) for m in convolutions]
    network(torch.randn(2, 1, 28, 28), torch.tensor([3, 7]))
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(convolutions)
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in seen), "a layer rearranges what it hands on"
