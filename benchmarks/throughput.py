"""How fast is the network trained and called? Images a second, beside the peers' and beside what this machine's convolutions can do.

    pip install -e '.[benchmarks]' && python benchmarks/throughput.py           two to five minutes on two CPU cores
    python benchmarks/throughput.py --shape 3 32 32 --out diffusion_lib/measure/results/throughput_colour.json
    python benchmarks/throughput.py --device cuda --batch-size 64 1024 --modes eager reduce-overhead --out FILE       on a GPU

A training step is all of `dl.train`: batch, noise, forward, backward, clipping, optimizer, moving average; the peers' networks go
through the same loop. Everything is timed in turns, in the same rounds, and the numbers are medians over the rounds. GFLOP/s are
counted by torch's flop counter (a multiplication and an addition are two). The best rate is that of the default network's own
convolutions, each alone on a batch of its own, forwards (and backwards, beside training), in the faster of the two memory layouts.
On a GPU the rates are also compared with that of one large product of matrices.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import peers
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import diffusion_lib as dl
from diffusion_lib.devices import PRECISIONS, choose_device, choose_precision
from diffusion_lib.measure.results import FOLDER

OURS, DIFFUSERS, DDP = "diffusion_lib", "diffusers", "denoising-diffusion-pytorch"
MODES = ("eager", "default", "reduce-overhead")  # the last one replays CUDA graphs
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def our_denoiser(shape: tuple[int, int, int]) -> dl.Denoiser:
    return dl.Denoiser(dl.UNet(shape[0]), dl.cosine_schedule(), "v", shape)


def denoisers(shape: tuple[int, int, int]) -> dict[str, dl.Denoiser]:
    torch.manual_seed(0)
    return {OURS: our_denoiser(shape), DIFFUSERS: peers.diffusers_denoiser(shape), DDP: peers.ddp_denoiser(shape=shape)}


def training_step(denoiser: dl.Denoiser, batch_size: int, device: str, precision: str) -> Callable[[], object]:
    """Makes one step of a training run."""
    images = torch.randn(2048, *denoiser.image_shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    config = dl.TrainConfig(steps=1_000_000, batch_size=batch_size, device=device, precision=precision)
    run = dl.train(denoiser, dl.ImageDataset.without_classes(images), config)
    return lambda: next(run)


def network_call(denoiser: dl.Denoiser, batch_size: int, device: str, precision: str) -> Callable[[], object]:
    """Calls the denoiser once, as a sampler does (which casts the weights once for all steps, if it runs inside one autocast)."""
    denoiser, dtype = denoiser.to(device).eval(), PRECISIONS[precision]
    xt = torch.randn(batch_size, *denoiser.image_shape, device=device)

    @torch.no_grad()
    def call():
        with torch.autocast(choose_device(device).type, dtype, enabled=dtype is not None):
            return denoiser(xt, 500)

    return call


def flops(call: Callable[[], object]) -> int:
    call()
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def convolutions_alone(
    denoiser: dl.Denoiser, batch_size: int, device: str, precision: str, layout: str, training: bool
) -> Callable[[], None]:
    """Makes each convolution of the network once, on an input of its own."""
    dtype = PRECISIONS[precision] or torch.float32
    work = []  # x, weight, bias, options and a gradient of each

    def note(convolution, inputs, output):
        shapes = (batch_size, *inputs[0].shape[1:]), convolution.weight.shape, (batch_size, *output.shape[1:])
        x, weight, gradient = (torch.randn(shape).to(device, dtype).to(memory_format=LAYOUTS[layout]) for shape in shapes)
        bias = torch.zeros_like(weight[:, 0, 0, 0])
        inputs = [each.detach().requires_grad_(training) for each in (x, weight, bias)]
        work.append((inputs, dict(stride=convolution.stride, padding=convolution.padding), gradient))

    hooks = [m.register_forward_hook(note) for m in denoiser.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        denoiser(torch.zeros(1, *denoiser.image_shape), 1)
    for hook in hooks:
        hook.remove()

    def call():
        for inputs, options, gradient in work:
            output = F.conv2d(*inputs, **options)
            if training:
                torch.autograd.grad(output, inputs, gradient)

    return call


def matrix_rate(device: str, precision: str, size: int = 8192) -> float:
    """Floating-point operations a second of a product of two square matrices, the best that one can hope for."""
    a, b = (torch.randn(size, size, device=device, dtype=PRECISIONS[precision] or torch.float32) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # TF32, in which convolutions of float32 are computed by default
    try:
        seconds = common.side_by_side({"product": lambda: a @ b}, 5, device, repeats=5)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * size**3 / statistics.median(seconds["product"])


def measure(
    kind: str, shape: tuple[int, int, int], batch_size: int, device: str, precision: str, rounds: int, mode: str = "eager"
) -> Iterator[dict]:
    """One row for each network; `kind` is "training" or "calls", `mode` one of `MODES`."""
    make = training_step if kind == "training" else network_call
    networks = denoisers(shape)
    calls = {name: make(denoiser, batch_size, device, precision) for name, denoiser in networks.items()}
    work = {name: flops(call) for name, call in calls.items()}
    if mode != "eager":  # after counting: the counter does not look into compiled code
        torch._dynamo.reset()  # it compiles code a few times only, for so many networks, sizes and precisions, and then runs it as it is
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        for denoiser in networks.values():
            denoiser.network.compile(mode=mode, dynamic=False)
    for layout in LAYOUTS:
        calls[layout] = convolutions_alone(our_denoiser(shape), batch_size, device, precision, layout, kind == "training")
        work[layout] = flops(calls[layout])
    on_gpu = device.startswith("cuda")
    seconds = common.side_by_side(calls, rounds, device, repeats=20 if on_gpu else 1)
    matrices = matrix_rate(device, precision) if on_gpu else None
    best = min(LAYOUTS, key=lambda layout: statistics.median(seconds[layout]))
    for name in (OURS, DIFFUSERS, DDP):
        took = statistics.median(seconds[name])
        rates = {} if matrices is None else dict(matrix_gflop_per_second=round(matrices / 1e9), of_matrices=work[name] / took / matrices)
        yield dict(
            kind=kind,
            network=name,
            precision=precision,
            batch_size=batch_size,
            mode=mode,
            images_per_second=round(batch_size / took, 1),
            times_slower_than_ours=round(common.ratio(seconds[name], seconds[OURS]), 2),
            gflop_per_second=round(work[name] / took / 1e9, 1),
            # (work / seconds) / (work of the convolutions / their seconds), round by round
            of_best_convolutions=round(common.ratio(seconds[best], seconds[name]) * work[name] / work[best], 3),
            best_convolutions=dict(layout=best, gflop_per_second=round(work[best] / statistics.median(seconds[best]) / 1e9, 1)),
            **rates,
        )


def sampler_overhead(batch_size: int, device: str, rounds: int, steps: int = 10) -> dict:
    """What a DDIM chain takes beyond its network calls, as a part of them; and the seconds of 64 glyphs in 50 steps."""
    model = dl.load_pretrained("glyphs").to(device)
    xT = torch.randn(batch_size, *model.image_shape, device=device)
    y = torch.arange(batch_size, device=device) % model.num_classes
    ts = itertools.cycle(torch.full((batch_size,), t, device=device) for t in dl.timestep_subset(model.schedule.T, steps)[:-1])
    chain = (step for _ in itertools.count() for step in dl.ddim_steps(model, xT, steps=steps, y=y))

    @torch.no_grad()
    def bare():
        model.network(xT, next(ts), y)

    # step by step in turns: what slows the machine for a second slows both
    seconds = common.side_by_side({"chain": lambda: next(chain), "bare calls": bare}, rounds * steps, device)
    glyphs = common.side_by_side({"50 steps": lambda: dl.sample(model, 64, steps=50, y=[k % 36 for k in range(64)])}, 3, device, warm_up=1)
    return dict(
        batch_size=batch_size,
        steps=steps,
        overhead=round(common.ratio(seconds["chain"], seconds["bare calls"]) - 1, 4),
        seconds_of_64_glyphs_in_50_steps=round(statistics.median(glyphs["50 steps"]), 2),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64])
    parser.add_argument(
        "--shape", type=int, nargs=3, default=peers.SHAPE, help="channels, height and width of the images (default 1 28 28)"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--modes", nargs="+", default=["eager"], choices=MODES, help="eager, or what torch.compile makes of the networks")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="default: float32, and what the device is faster in")
    parser.add_argument("--out", type=Path, default=FOLDER / "throughput.json")
    options = parser.parse_args(arguments)
    faster = choose_precision(device=options.device)
    precisions = options.precision or [p for p, dtype in PRECISIONS.items() if dtype is None or dtype == faster]

    rows = []
    print(f"{'':9}{'':10}{'':6}{'':16}{'network':30}{'images/s':>9}{'GFLOP/s':>9}{'of best':>9}{'slower than ours':>18}")
    for precision, mode, batch_size in itertools.product(precisions, options.modes, options.batch_size):
        for kind in ("training", "calls"):
            for row in measure(kind, tuple(options.shape), batch_size, options.device, precision, options.rounds, mode):
                rows.append(row)
                print(
                    f"{kind:9}{precision:10}{batch_size:5} {mode:16}{row['network']:30}{row['images_per_second']:9.0f}"
                    f"{row['gflop_per_second']:9.0f}{row['of_best_convolutions']:9.2f}{row['times_slower_than_ours']:18.1f}",
                    flush=True,
                )
    sampling = sampler_overhead(options.batch_size[0], options.device, options.rounds)
    print(f"a DDIM chain takes {sampling['overhead']:+.1%} beside its network calls;", end=" ")
    print(f"64 glyphs in 50 steps take {sampling['seconds_of_64_glyphs_in_50_steps']} s")
    results = dict(
        **common.origin(__file__, options.device),
        settings=dict(shape=list(options.shape), batch_size=options.batch_size, rounds=options.rounds, device=options.device),
        rows=rows,
        sampling=sampling,
    )
    common.write(options.out, results)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
