#!/usr/bin/env python3
"""Clustering and near-duplicates: semdedup beside faiss, scikit-learn, semhash, the paper's step, and the bare matrix product.

    python benchmarks/dedup.py [--quick] [--only iteration fit pairs whole n_clusters workers] [--rounds 3] [--slow]

All methods of a table work on the same data and take turns, round after round; the fastest round and the median are given. The
bare product is that of numpy's BLAS in blocks into buffers that are used again, on as many threads of one BLAS thread each as there
are CPUs: what no method that compares everything can beat. The data are made up: topics in a decaying spectrum, a fifth of the rows near-copies of others.

Writes dedup.json beside this file, part by part; `--only` replaces parts of it, if it was measured on the same machine. `--quick`
takes a twentieth of all sizes to see that everything works, and writes only where `--out` says. The temporary folder takes 3.3 GB.
"""
import argparse, json, os, platform, subprocess, sys, tempfile, threading, time, warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import numpy as np, torch
from semdedup.clustering import KMeans, centroid_similarity, default_n_clusters, kmeans
from semdedup.comparison import measure_recall
from semdedup.core import Workers, atomic_write, blocks, cpu_count, digest
from semdedup.pairwise import cut, tile_pairs, tile_size
from semdedup.pruning import deduplicate
from semdedup.vectors import open_vectors

EPS = .05 # duplicates have a cosine similarity of at least .95
MEMORY = 10**9 # bytes, as is the default of `deduplicate`
SHAPES = (200_000, 512, 200), (500_000, 256, 1000) # of k-means: rows, numbers a row, clusters

# The data

def unit(x): return x / np.linalg.norm(x, axis=1, keepdims=True)

def write_vectors(path, n, d, topics=2000, seed=7, piece=50_000):
    "Write `(n, d)` float32 unit rows as .npy, a piece at a time: topics in a decaying spectrum; a fifth are near-copies (cosine .95 to 1) of other rows."
    rng, spectrum = np.random.default_rng(seed), (np.arange(1, d + 1) ** -.5).astype(np.float32)
    draw = lambda m: unit(rng.standard_normal((m, d), dtype=np.float32) * spectrum)
    centres, weights = draw(topics), rng.dirichlet(np.ones(topics))
    out, originals = np.lib.format.open_memmap(path, 'w+', np.float32, (n, d)), np.empty(0, np.int64)
    for s in blocks(n, piece):
        rows = np.arange(s.start, s.stop)
        out[s] = unit(centres[rng.choice(topics, len(rows), p=weights)] + draw(len(rows)))
        is_copy = rng.random(len(rows)) < .2
        copies, originals = rows[is_copy], np.r_[originals, rows[~is_copy]]
        size = rng.uniform(.03, .32, (len(copies), 1)).astype(np.float32)
        out[copies] = unit(out[rng.choice(originals, len(copies))] + size * draw(len(copies)))
    out.flush()

@dataclass
class Bench:
    "What all parts share."
    folder: Path # for data, removed at the end
    rounds: int # of turns
    quick: bool = False # a twentieth of all sizes?
    slow: bool = False # also what takes minutes a turn?
    def size(self, n: int, part: int = 20) -> int: return max(1, n // part) if self.quick else n
    def path(self, n: int, d: int) -> Path: # made when first asked for
        path = self.folder/f'{n}x{d}.npy'
        if not path.exists(): write_vectors(path, n, d, self.size(2000))
        return path
    def rows(self, n: int, d: int) -> np.ndarray: return np.load(self.path(n, d))

# The clock

def in_turn(methods: dict[str, Callable], rounds: int) -> tuple[dict[str, list[float]], dict]:
    "Let the methods take turns: seconds of each round, and what each returned in the last."
    seconds, results = {m: [] for m in methods}, {}
    for _ in range(rounds):
        for m, f in methods.items():
            t = time.perf_counter(); results[m] = f(); seconds[m].append(time.perf_counter() - t)
    return seconds, results

def short(x): return None if x is None else float(f'{x:.4g}')

def times(seconds: list[float], bare: list[float] | None = None) -> dict:
    "The fastest round and the median; and how many times the fastest round of the bare product that is."
    row = dict(best=short(min(seconds)), median=short(float(np.median(seconds))))
    return row if bare is None else {**row, 'times_product': short(min(seconds) / min(bare))}

@contextmanager
def threads(n: int):
    "Let semdedup use `n` threads."
    before = os.environ.get('SEMDEDUP_THREADS')
    os.environ['SEMDEDUP_THREADS'] = str(n)
    try: yield
    finally:
        if before is None: del os.environ['SEMDEDUP_THREADS']
        else: os.environ['SEMDEDUP_THREADS'] = before

# The bare product

def product(work: list[tuple[slice, slice]], a: np.ndarray, b: np.ndarray, n_workers: int | None = None) -> None:
    "Products of rows of `a` with rows of `b`, block by block into the same memory."
    most, own = max((r.stop - r.start) * (c.stop - c.start) for r, c in work), threading.local()
    def one(pair):
        r, c = pair
        if not hasattr(own, 'out'): own.out = np.empty(most, np.float32)
        shape = r.stop - r.start, c.stop - c.start
        np.matmul(a[r], b[c].T, out=own.out[:shape[0] * shape[1]].reshape(shape))
    with Workers(n_workers) as w:
        for _ in w.map(one, work): pass

def all_with(x: np.ndarray, centroids: np.ndarray, passes: int = 1) -> None:
    "The products of all rows with all centroids."
    product([(s, slice(0, len(centroids))) for s in blocks(len(x), 2048)] * passes, x, centroids)

def triangles(x: np.ndarray, clusters: list[np.ndarray], n_workers: int | None = None) -> None:
    "The products of each row with those that stand before it in its cluster; clusters are runs of rows."
    shift = lambda s, by: slice(s.start + by, s.stop + by)
    product([(shift(r, m[0]), shift(c, m[0])) for m in clusters for r in blocks(len(m), 512) for c in blocks(r.stop, 4096)], x, x, n_workers)

# Part 1: an iteration of k-means

def fits(x: np.ndarray, start: np.ndarray, plain: bool) -> dict[str, Callable]:
    "Name → a function that does n iterations of k-means from `start`."
    import faiss
    from fast_pytorch_kmeans import KMeans as Plain
    faiss.omp_set_num_threads(cpu_count())
    X, C, k = torch.from_numpy(x), torch.from_numpy(start), len(start)
    out = np.ones((len(x), k), np.float32) # not empty: memory is slow when it is used for the first time
    def ours(n): KMeans(k, max_iter=n, tol=0).fit_predict(X, C)
    def with_faiss(n): faiss.Kmeans(x.shape[1], k, niter=n, spherical=True, max_points_per_centroid=len(x)).train(x, init_centroids=start.copy())
    def pytorch(n): Plain(k, max_iter=n, tol=-1, mode='euclidean').fit_predict(X, C.clone())
    def whole(n):
        for _ in range(n): np.matmul(x, start.T, out=out)
    return {'bare product': lambda n: all_with(x, start, n), 'bare product, one call (numpy)': whole, 'semdedup': ours, 'faiss': with_faiss,
            **({'fast-pytorch-kmeans': pytorch} if plain else {})}

def iteration(b: Bench) -> list[dict]:
    """Seconds of one iteration of k-means, assignment and new centroids, from the same start, beside the bare product, in blocks and
    in one call: the difference between a fit of several and a fit of one, so that copies of the data and the last assignment do not
    count (scikit-learn's fits differ by more than iterations: see kmeans.py). Best is the difference of the fastest fits, median that
    of the median ones: as differences, either may be the smaller."""
    rows, more = [], 10 if b.quick else 2
    for n, d, k in SHAPES:
        n, k = b.size(n), b.size(k, 5)
        x = b.rows(n, d)
        todo = fits(x, x[np.sort(np.random.default_rng(0).choice(n, k, replace=False))], b.slow or d == 512)
        seconds, _ = in_turn({(m, i): lambda f=f, i=i: f(i) for m, f in todo.items() for i in (1, 1 + more)}, b.rounds)
        # not which(differences): the smallest has a slow single iteration
        each = lambda m, which: float(which(seconds[m, 1 + more]) - which(seconds[m, 1])) / more
        rows += [dict(shape=f'{n:,} × {d}, k = {k:,}', method=m, best=short(each(m, min)), median=short(each(m, np.median)),
                      times_product=short(each(m, min) / each('bare product', min))) for m in todo]
    return rows

# Part 2: a whole fit

def whole_fits(x: np.ndarray, k: int, seed: int) -> dict[str, Callable]:
    "Name → a function that fits unit centroids to all of `x` and returns them with the label of each row."
    import faiss
    faiss.omp_set_num_threads(cpu_count())
    v, X = open_vectors(x).check(), torch.from_numpy(x)
    def progressive():
        c = kmeans(v, k, seed=seed, progressive=True); return c.centroids, c.labels
    def lloyd():
        km = KMeans(k, max_iter=12, tol=0, seed=seed); labels = km.fit_predict(X); return km.centroids.numpy(), labels.numpy()
    def with_faiss(**sample):
        km = faiss.Kmeans(x.shape[1], k, niter=12, spherical=True, seed=seed, **sample); km.train(x)
        return km.centroids, km.index.search(x, 1)[1][:, 0]
    return {'bare product': lambda: all_with(x, x[:k]), 'semdedup, progressive': progressive, 'semdedup, k-means++ and 12 iterations': lloyd,
            'faiss, 12 iterations': lambda: with_faiss(max_points_per_centroid=len(x)), 'faiss, 12 iterations on its sample': with_faiss}

def fit(b: Bench) -> list[dict]:
    "Seconds of a fit with the final assignment, and the mean cosine similarity of the rows to their own centroid; each round with another seed."
    rows = []
    for n, d, k in SHAPES:
        n, k = b.size(n), b.size(k, 5)
        x, seconds, cosines = b.rows(n, d), {}, {}
        for seed in range(2):
            s, found = in_turn(whole_fits(x, k, seed), 1)
            for m in s:
                seconds.setdefault(m, []).extend(s[m])
                if found[m]: cosines.setdefault(m, []).append(round(float(centroid_similarity(x, *found[m]).mean(dtype=np.float64)), 5))
        rows += [dict(shape=f'{n:,} × {d}, k = {k:,}', method=m, **times(seconds[m], seconds['bare product']), mean_cosine=cosines.get(m)) for m in seconds]
    return rows

# Part 3: pairs

def our_pairs(v, clusters: list[np.ndarray], n_workers: int) -> np.ndarray:
    "The items that have a duplicate before them in their cluster."
    tiles = [t for m in clusters for t in cut(m, None, tile_size(MEMORY, v.shape[1], n_workers))]
    with Workers(n_workers) as w: return np.unique(np.concatenate([later for later, _, _ in w.map(tile_pairs, tiles, v, 1 - EPS)]))

def paper_step(X: torch.Tensor, clusters: list[np.ndarray]) -> np.ndarray:
    "The same as the code of the paper does it."
    found = []
    for m in clusters:
        x = X[m[0]:m[-1] + 1]
        largest = torch.triu(x @ x.T, diagonal=1).max(dim=0)[0]
        found.append(m[(largest > 1 - EPS).numpy()])
    return np.concatenate(found)

def inside_clusters(b: Bench, n_clusters: int, size: int, n_workers: int, with_paper: bool) -> list[dict]:
    "One row a method: the pairs inside clusters of one size."
    x = b.rows(n_clusters * size, 512)
    clusters, v, X = [np.arange(i * size, (i + 1) * size) for i in range(n_clusters)], open_vectors(x).check(), torch.from_numpy(x)
    methods = {'bare product, triangle': lambda: triangles(x, clusters, n_workers), 'semdedup': lambda: our_pairs(v, clusters, n_workers)}
    if with_paper: methods["the paper's step (torch)"] = lambda: paper_step(X, clusters)
    seconds, found = in_turn(methods, b.rounds)
    shape = f'{n_clusters} × {size:,} × 512, {n_workers} thread{"s" * (n_workers > 1)}'
    return [dict(shape=shape, method=m, **times(seconds[m], seconds['bare product, triangle']), removed=None if found[m] is None else len(found[m]),
                 others_than_semdedup=None if found[m] is None or m == 'semdedup' else len(np.setxor1d(found[m], found['semdedup']))) for m in methods]

def beside_semhash(b: Bench, n: int) -> list[dict]:
    "One row a method: near-duplicates of a whole set of embeddings; semhash builds an index and searches in it."
    from semhash import SemHash
    x, index = b.rows(n, 512), {}
    names = [str(i) for i in range(n)]
    def build(): index['of x'] = SemHash.from_embeddings(x, records=names, model=None)
    methods = {'bare product, triangle': lambda: triangles(x, [np.arange(n)]),
               'semdedup': lambda: deduplicate(x, eps=EPS, keep='first'), 'semdedup, exact': lambda: deduplicate(x, eps=EPS, keep='first', exact=True),
               'semhash, its index': build, 'semhash, its search': lambda: index['of x'].self_deduplicate(threshold=1 - EPS)}
    seconds, found = in_turn(methods, b.rounds)
    seconds['semhash'] = list(np.add(seconds['semhash, its index'], seconds['semhash, its search']))
    removed = {m: len(found[m].removed) for m in methods if m.startswith('semdedup')} | {'semhash': len(found['semhash, its search'].filtered)}
    return [dict(shape=f'{n:,} × 512, deduplicated', method=m, **times(seconds[m], seconds['bare product, triangle']), removed=removed.get(m)) for m in seconds]

def pairs(b: Bench) -> list[dict]:
    "Seconds of finding the near-duplicates (cosine ≥ .95) inside clusters, and how many items go."
    n_workers = cpu_count()
    return [*inside_clusters(b, 16, b.size(1000), n_workers, True), *inside_clusters(b, 1, b.size(20_000), n_workers, True),
            *inside_clusters(b, 1, b.size(60_000), 1, False), *beside_semhash(b, b.size(30_000))]

# Part 4: everything, in a process of its own

def anonymous_GB() -> float: # of this process, now; 0 where the system does not tell
    status = Path('/proc/self/status')
    kB = [int(l.split()[1]) for l in status.read_text().splitlines() if l.startswith('RssAnon')] if status.exists() else []
    return kB[0] * 1024 / 1e9 if kB else 0.

class Peak:
    "The largest anonymous memory so far, looked at fifty times a second."
    def __init__(self): self.GB = anonymous_GB(); threading.Thread(target=self.watch, daemon=True).start()
    def watch(self):
        while True: self.GB = max(self.GB, anonymous_GB()); time.sleep(.02)

def child(path: str, probes: int, recall: int) -> dict:
    "What the process of its own does: deduplicate, and then measure the recall, if asked."
    before, peak, t = anonymous_GB(), Peak(), time.perf_counter()
    found = deduplicate(path, eps=EPS, probes=probes)
    row = dict(seconds=time.perf_counter() - t, GB=peak.GB, GB_imports=before, clusters=found.evidence.plan.groups.n_clusters, removed=len(found.removed),
               pairs_compared=found.stats['pairs_compared'], part_compared=found.stats['pairs_compared'] / found.stats['pairs_possible'])
    if not recall: return row
    t = time.perf_counter()
    measured = measure_recall(found.evidence.plan, 1 - EPS, recall)
    return {**row, **{k: measured[k] for k in ('sample', 'pairs', 'recall', 'low', 'high')}, 'recall_seconds': time.perf_counter() - t}

def in_own_process(**spec) -> dict:
    "Call `child` in a fresh process."
    done = subprocess.run([sys.executable, __file__, '--child', json.dumps(spec)], capture_output=True, text=True)
    if done.returncode: raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])

def whole(b: Bench) -> list[dict]:
    """Seconds of `deduplicate` for a .npy file (in the page cache), without imports, and the peak of
    anonymous memory, with imports; recall from random items against all."""
    runs, rounds = [(b.size(50_000), 1), (b.size(50_000), 6), (b.size(1_000_000), 1), (b.size(1_000_000), 6)], []
    files = {n: str(b.path(n, 512)) for n, _ in runs}
    for r in range(b.rounds): rounds.append([in_own_process(path=files[n], probes=probes, recall=0 if r else b.size(2000)) for n, probes in runs])
    rows = []
    for (n, probes), reports in zip(runs, zip(*rounds)):
        one = reports[0]
        rows.append(dict(shape=f'{n:,} × 512', probes=probes, **times([r['seconds'] for r in reports]),
                         peak_GB=round(max(r['GB'] for r in reports), 3), of_it_imports_GB=round(one['GB_imports'], 3),
                         clusters=one['clusters'], removed=one['removed'], pairs_compared=one['pairs_compared'], part_compared=short(one['part_compared']),
                         recall=one['recall'], low=short(one['low']), high=short(one['high']), duplicates_in_sample=one['pairs'],
                         recall_seconds=short(one['recall_seconds'])))
    return rows

# Part 5: how many clusters

def n_clusters(b: Bench) -> list[dict]:
    "Seconds of clustering and of pairs for numbers of clusters around the default, beside what the cost model says; both relative to the default."
    n = b.size(200_000)
    v, default, groups = open_vectors(b.path(n, 512)).check(), default_n_clusters(n), {}
    ks = sorted({max(1, int(default * 2. ** p)) for p in range(-3, 4)})
    def cluster(k): groups[k] = kmeans(v, k, progressive=True)
    methods = {(k, step): f for k in ks for step, f in (('clusters', lambda k=k: cluster(k)), ('pairs', lambda k=k: deduplicate(v, eps=EPS, groups=groups[k])))}
    seconds, found = in_turn(methods, b.rounds)
    total = {k: min(seconds[k, 'clusters']) + min(seconds[k, 'pairs']) for k in ks}
    model = {k: k / default + default / k for k in ks} # passes · n · k + n² / 2k, in which both parts are equal at the default
    return [dict(shape=f'{n:,} × 512', k=k, clusters=times(seconds[k, 'clusters'])['best'], clusters_median=times(seconds[k, 'clusters'])['median'],
                 pairs=times(seconds[k, 'pairs'])['best'], pairs_median=times(seconds[k, 'pairs'])['median'], both=short(total[k]),
                 times_default=short(total[k] / total[default]), model=short(model[k] / 2), pairs_compared=found[k, 'pairs'].stats['pairs_compared'],
                 removed=len(found[k, 'pairs'].removed)) for k in ks]

# Part 6: several processes

def fingerprint(found) -> str:
    "A short name for all that counts of clusters or of a selection."
    if hasattr(found, 'labels'): return digest(found.labels, found.centroids, found.similarity)
    return digest(*(found.table[c].to_numpy() for c in ('cluster', 'kept', 'rank', 'duplicate_of', 'duplicate_similarity')))

def workers(b: Bench) -> list[dict]:
    "Seconds of k-means and of pairs in one process and on a Dask cluster of two processes; started, with semdedup imported, before the clock is."
    try: from dask.distributed import Client, LocalCluster
    except ImportError:
        print('workers: left out, dask and distributed are not installed.'); return []
    n = b.size(200_000)
    v, k = open_vectors(b.path(n, 512)).check(), default_n_clusters(n)
    groups = kmeans(v, k, progressive=True)
    with (LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(b.folder)) as cluster,
          Client(cluster) as client):
        client.run(__import__, 'semdedup.pruning')
        where = {'one process, 1 thread': (1, None), 'one process, 2 threads': (2, None), 'Dask, 2 processes of 1 thread': (cpu_count(), client)}
        steps = {'k-means': lambda c: kmeans(v, k, progressive=True, client=c), 'pairs': lambda c: deduplicate(v, eps=EPS, groups=groups, client=c)}
        def run(step, n_threads, c):
            with threads(n_threads): return step(c)
        methods = {(step, place): lambda f=f, how=how: run(f, *how) for step, f in steps.items() for place, how in where.items()}
        seconds, found = in_turn(methods, b.rounds)
    first = 'one process, 1 thread'
    return [dict(shape=f'{n:,} × 512, k = {k}', step=step, method=place, **times(seconds[step, place]),
                 speedup=short(min(seconds[step, first]) / min(seconds[step, place])),
                 same_to_the_bit=fingerprint(found[step, place]) == fingerprint(found[step, first])) for step, place in methods]

PARTS = {f.__name__: f for f in (iteration, fit, pairs, whole, n_clusters, workers)}

# The report

def cpu() -> str:
    "The processor's name, where the system tells it."
    info = Path('/proc/cpuinfo')
    names = [l.split(':', 1)[1].strip() for l in info.read_text().splitlines() if l.startswith('model name')] if info.exists() else []
    return names[0] if names else platform.processor()

def installed(package: str) -> str | None:
    try: return version(package)
    except PackageNotFoundError: return None

def machine() -> dict:
    "What was measured on: nothing that names a computer or a user."
    from threadpoolctl import threadpool_info
    blas = next((p for p in threadpool_info() if 'numpy' in p['filepath'] and p['user_api'] == 'blas'), {}) # torch has its own
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 0
    return dict(cpu=cpu(), cores=cpu_count(), memory_GB=round(memory / 1e9, 1), system=platform.system(), python=platform.python_version(),
                blas=' '.join(str(blas.get(k) or '') for k in ('internal_api', 'version', 'architecture')).strip(),
                versions={p: installed(p) for p in ('semdedup', 'numpy', 'torch', 'faiss-cpu', 'scikit-learn', 'semhash', 'fast-pytorch-kmeans', 'dask')})

def cell(x) -> str:
    "A value in a table."
    if x is None: return ''
    if isinstance(x, bool): return 'yes' if x else 'no'
    if isinstance(x, int): return f'{x:,}'
    if isinstance(x, (list, tuple)): return ', '.join(map(cell, x))
    return f'{x:.5g}' if isinstance(x, float) else str(x)

def markdown(rows: list[dict]) -> str:
    "Rows as a Markdown table, its columns as wide as they need."
    if not rows: return ''
    columns = list(dict.fromkeys(c for r in rows for c in r))
    lines = [[c.replace('_', ' ') for c in columns], *([cell(r.get(c)) for c in columns] for r in rows)]
    width = [max(map(len, column)) for column in zip(*lines)]
    left = [any(isinstance(r.get(c), str) for r in rows) for c in columns]
    text = ['| ' + ' | '.join(t.ljust(w) if l else t.rjust(w) for t, w, l in zip(line, width, left)) + ' |' for line in lines]
    return '\n'.join([text[0], '|' + '|'.join('-' * (w + 2) if l else '-' * (w + 1) + ':' for w, l in zip(width, left)) + '|', *text[1:]])

def known(path: Path, settings: dict) -> dict:
    "The parts of an earlier run on the same machine, which `--only` leaves as they are."
    if not path.exists(): return {}
    before = json.loads(path.read_text())
    if {k: before.get(k) for k in settings} != settings:
        sys.exit(f'{path.name} was measured on another machine, with other versions or other sizes. '
                 'Run without --only, or give --out.')
    return before['parts']

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true', help='a twentieth of all sizes, one round')
    p.add_argument('--only', nargs='+', choices=list(PARTS), metavar='NAME', help='only these parts: ' + ', '.join(PARTS))
    p.add_argument('--rounds', type=int, help='turns of each method (3; 1 if --quick; of fit, one for each of 2 seeds)')
    p.add_argument('--slow', action='store_true', help='fast-pytorch-kmeans also where it needs 4 GB and a minute an iteration')
    p.add_argument('--out', type=Path, help='write here instead of dedup.json')
    p.add_argument('--child', type=json.loads, help=argparse.SUPPRESS)
    return p.parse_args()

def main():
    a = arguments()
    os.environ.setdefault('SEMDEDUP_PROGRESS', '0')
    warnings.simplefilter('ignore')
    if a.child: return print(json.dumps(child(**a.child)))
    out, settings = a.out or (None if a.quick else Path(__file__).with_suffix('.json')), dict(quick=a.quick, machine=machine())
    parts, rounds = known(out, settings) if out and a.only else {}, a.rounds or (1 if a.quick else 3)
    print(*(f'{k}: {v if isinstance(v, str) else json.dumps(v)}' for k, v in settings['machine'].items()), sep='\n')
    with tempfile.TemporaryDirectory(prefix='semdedup-bench-') as folder:
        b = Bench(Path(folder), rounds, a.quick, a.slow)
        for name in a.only or PARTS:
            t = time.perf_counter()
            rows = PARTS[name](b)
            parts[name] = dict(what=' '.join(PARTS[name].__doc__.split()), rounds=2 if name == 'fit' else rounds, rows=rows)
            print(f'\n### {name} ({time.perf_counter() - t:.0f} s)\n{parts[name]["what"]}\n\n{markdown(rows)}', flush=True)
            if out:
                with atomic_write(out) as tmp:
                    tmp.write_text(json.dumps({**settings, 'unit': 'seconds', 'parts': {p: parts[p] for p in PARTS if p in parts}},
                                              indent=1, ensure_ascii=False) + '\n', encoding='utf-8')

if __name__ == '__main__': main()
