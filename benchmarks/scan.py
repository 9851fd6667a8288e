#!/usr/bin/env python3
"""Looking at a folder of images: `semdedup.scan` beside a plain loop over ImageFolder and DataLoader with the same encoder.

    python benchmarks/scan.py [--quick] [--only speed memory] [--rounds 2]

The loop is what one writes without thinking: ImageFolder, Resize, batches of 64, no processes or as many as there are CPUs (the better
of the two counts), and on each batch the network as its package hands it out, with as many threads as torch takes by itself. It does
nothing else. `scan` also digests bytes and pixels, makes thumbnails, and writes everything to disk. All take turns, round after round;
the fastest round counts.
`bfloat16` is the same network with half as many bits (`precision='bfloat16'`), where the processor has instructions for it, and resnet18
has weights drawn at random: it is its speed that counts. The bare arithmetic is that of the network in float32, at the rate of a large
matrix product on all cores: what no way of looking gets far beyond. `CPU ms` is what all processes together used for an image: it tells
more than the clock where others work too.

The photographs are made up, and are JPEGs of three sizes. Writes scan.json beside this file; `--quick` takes a tenth of all sizes, and
writes only where `--out` says.
"""
import argparse, json, os, resource, subprocess, sys, tempfile, time, warnings
from pathlib import Path
import numpy as np
import torch
from dedup import all_with, machine, markdown, short
from PIL import Image
from semdedup.core import Workers, atomic_write, cpu_count
from semdedup.embeddings import IMAGENET_INPUT, TorchEncoder, folded, get_encoder, lacks_bfloat16
from semdedup.scanning import scan

# width, height, how many: enough that starting processes does not count
SETS = {'small': (64, 64, 6000), 'medium': (500, 375, 2400), 'large': (2400, 1800, 200)}
ENCODERS = {'copies': None, 'efficientnet-lite0': 64, 'resnet18': 64} # name → pixels a side, or its own

# The photographs

def photograph(file: Path, seed: int, width: int, height: int) -> None:
    "Soft shapes in colour with a little noise, as a JPEG of quality 85."
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.normal(0, 2.5, (height, width, 1)).astype(np.int16)
    Image.fromarray((np.asarray(soft) + noise).clip(0, 255).astype(np.uint8)).save(file, quality=85)

def folder_of(root: Path, name: str, n: int, width: int, height: int) -> Path:
    "Ten class folders of photographs."
    folder = root/name
    for k in range(10): (folder/str(k)).mkdir(parents=True, exist_ok=True)
    with Workers() as w:
        for _ in w.map(lambda i: photograph(folder/str(i % 10)/f'{i:05d}.jpg', i, width, height), range(n)): pass
    return folder

# The methods

def make(name: str, side: int | None, precision: str = 'float32'):
    "The encoder."
    if name == 'resnet18':
        from torchvision.models import resnet18
        # as `torchvision_encoder` does, but for the weights
        return TorchEncoder(name, folded(resnet18(weights=None)), side, device='cpu', precision=precision, **IMAGENET_INPUT)
    return get_encoder(name, side or 32, precision, size=side, device='cpu')

def as_it_comes(name: str, side: int | None):
    "The same network for the plain loop: a function of a batch (b, 3, side, side) uint8, and the side. `copies` is no network and has no other form."
    if not side: return (encoder := make(name, side)), encoder.size
    if name == 'resnet18':
        from torchvision.models import resnet18
        net = resnet18(weights=None)
        net.fc = torch.nn.Identity()
    else:
        from efficientnet_lite_pytorch import EfficientNet
        net = EfficientNet.from_name(name)
        net.forward = lambda x: net.extract_features(x).mean((2, 3))
    net.eval()
    @torch.inference_mode()
    def features(x: np.ndarray) -> np.ndarray: return net((torch.from_numpy(x).float() / 255 - .45) / .225).numpy()
    return features, side

def plain(folder: Path, encode, side: int, n_workers: int) -> int:
    "The plain loop; returns how many images it saw."
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, Resize
    images = ImageFolder(str(folder), Compose([Resize((side, side)), PILToTensor()]))
    return sum(len(encode(x.numpy())) for x, _ in DataLoader(images, batch_size=64, num_workers=n_workers))

def arithmetic(features, side: int):
    """The bare arithmetic of a network: a function that does products of two matrices (2048 × 2048),
    and returns how many images' operations, as torch counts them, that was."""
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter: features(np.zeros((1, 3, side, side), np.uint8))
    x, n = np.ones((2048, 2048), np.float32), 16
    def products() -> int:
        all_with(x, x, n)
        return n * 2 * 2048**3 // counter.get_total_flops()
    return products

def cpu_seconds() -> float:
    "Of this process and of its children that have ended."
    return sum(getattr(resource.getrusage(who), kind) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) for kind in ('ru_utime', 'ru_stime'))

def measured(f) -> tuple[float, float, int]:
    "Seconds by the clock and by the CPUs, and how many images."
    t, c = time.perf_counter(), cpu_seconds()
    n = f()
    return time.perf_counter() - t, cpu_seconds() - c, n

# Part 1

def speed(root: Path, part: int, rounds: int) -> list[dict]:
    """Images a second, CPU milliseconds an image, and how many times the better plain loop that
    is. `again` is a second scan of the same folder: everything is kept."""
    rows = []
    for size, (width, height, n) in SETS.items():
        folder = folder_of(root, size, max(40, n // part), width, height)
        for name, side in ENCODERS.items():
            encoder, shorter, usual, cache = (make(name, side), make(name, side, 'bfloat16') if side and not lacks_bfloat16() else None,
                                              as_it_comes(name, side), root/'cache')
            methods = {'plain loop': lambda: plain(folder, *usual, 0), f'plain loop, {cpu_count()} processes': lambda: plain(folder, *usual, cpu_count()),
                       'scan': lambda: len(scan(folder, encoder, cache=False).table)}
            if shorter: methods['scan, bfloat16'] = lambda: len(scan(folder, shorter, cache=False).table)
            if side: methods['the bare arithmetic'] = arithmetic(*usual)
            seen = {m: [] for m in methods}
            for _ in range(rounds):
                for m, f in methods.items(): seen[m].append(measured(f))
            scan(folder, encoder, cache=cache)
            seen['scan, again'] = [measured(lambda: len(scan(folder, encoder, cache=cache).table))]
            rate = {m: max(n / s for s, _, n in runs) for m, runs in seen.items()}
            loop = max(r for m, r in rate.items() if m.startswith('plain'))
            rows += [dict(images=f'{size}, {width} × {height}', encoder=name, method=m, images_a_second=short(rate[m]),
                          CPU_ms=short(min(c / n for _, c, n in runs) * 1000), times_loop=short(rate[m] / loop)) for m, runs in seen.items()]
    return rows

# Part 2

CHILD = """
import sys; sys.path.insert(0, {here!r})
from pathlib import Path
from scan import as_it_comes, make, plain, scan, cpu_count
encoder = make('copies', None)
print('ready', flush=True); sys.stdin.readline()
if {method!r} == 'scan': scan(Path({folder!r}), encoder, cache=False)
else: plain(Path({folder!r}), *as_it_comes('copies', None), cpu_count())
"""

def peak(method: str, folder: Path) -> float:
    "MB that a process and its children take at most beyond what imports take; pages that they share count once."
    import psutil
    code = CHILD.format(here=str(Path(__file__).parent), method=method, folder=str(folder))
    child = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def now():
        total = 0
        for p in [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]:
            try: total += p.memory_full_info().pss
            except psutil.Error: pass # it has just ended
        return total / 1e6
    child.stdout.readline()
    before, most = now(), 0.
    print(file=child.stdin, flush=True)
    while child.poll() is None:
        try: most = max(most, now())
        except psutil.Error: break
        time.sleep(.1)
    if child.wait(): sys.exit(f'{method} failed')
    return most - before

def memory(root: Path, part: int, rounds: int) -> list[dict]:
    "Peak memory beyond that of the imports, in MB, for more and more images of 64 × 64 (hard links to the same ones), with the encoder for near-copies."
    rows, (width, height, n) = [], SETS['small']
    some = sorted(folder_of(root, 'few', max(40, n // part // 6), width, height).rglob('*.jpg'))
    for times in 1, 4, 16:
        folder = root/f'times{times}'
        for k in range(times):
            for f in some: (folder/f.parent.name).mkdir(parents=True, exist_ok=True); os.link(f, folder/f.parent.name/f'{k} {f.name}')
        rows += [dict(images=len(some) * times, method=m, peak_MB=short(peak(m, folder))) for m in ('plain loop with processes', 'scan')]
    return rows

PARTS = {f.__name__: f for f in (speed, memory)}

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true', help='a tenth of all sizes, one round')
    p.add_argument('--only', nargs='+', choices=list(PARTS), metavar='NAME', help='only these parts: ' + ', '.join(PARTS))
    p.add_argument('--rounds', type=int, help='turns of each method (2; 1 if --quick)')
    p.add_argument('--out', type=Path, help='write here instead of scan.json')
    return p.parse_args()

def main():
    a = arguments()
    os.environ.setdefault('SEMDEDUP_PROGRESS', '0')
    warnings.simplefilter('ignore')
    out, rounds = a.out or (None if a.quick or a.only else Path(__file__).with_suffix('.json')), a.rounds or (1 if a.quick else 2)
    result = dict(quick=a.quick, machine=machine(), unit='images a second', parts={})
    print(*(f'{k}: {v if isinstance(v, str) else json.dumps(v)}' for k, v in result['machine'].items()), sep='\n')
    with tempfile.TemporaryDirectory(prefix='semdedup-bench-') as folder:
        for name in a.only or PARTS:
            t = time.perf_counter()
            part = dict(what=' '.join(PARTS[name].__doc__.split()), rounds=rounds, rows=PARTS[name](Path(folder), 10 if a.quick else 1, rounds))
            result['parts'][name] = part
            print(f'\n### {name} ({time.perf_counter() - t:.0f} s)\n{part["what"]}\n\n{markdown(part["rows"])}', flush=True)
    if out:
        with atomic_write(out) as tmp: tmp.write_text(json.dumps(result, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')

if __name__ == '__main__': main()
