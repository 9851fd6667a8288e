#!/usr/bin/env python3
"""One iteration of k-means: semdedup beside plain fast-pytorch-kmeans, scikit-learn, faiss, and the bare matrix product.

    python benchmarks/kmeans.py [--k 20,200] [--rounds 5]

All start from the same centroids and do the same number of iterations on the pixels of Fashion-MNIST (60,000 × 784, unit rows;
its packaged part, repeated to that size, where the full set is not to be had). The methods take turns, round after round, and
the fastest round of each counts: a shared machine is slow at times, and never too fast. Writes kmeans.json beside this file.
"""
import argparse, json, platform, time, warnings
from pathlib import Path
import faiss, numpy as np, torch
from fast_pytorch_kmeans import KMeans as Plain
from sklearn.cluster import KMeans as Sklearn
from semdedup import UserError, embed, load_images
from semdedup.clustering import KMeans, centroid_similarity
from semdedup.core import cpu_count

def pixels():
    "The rows (60000, 784) float32, and where they came from."
    try: return embed(load_images('fmnist'), 'pixels'), 'fmnist'
    except UserError: return np.tile(embed(load_images('fmnist-mini'), 'pixels'), (8, 1))[:60000], 'fmnist-mini, repeated'

def objective(x, centroids, labels): return float(centroid_similarity(x, np.asarray(centroids), np.asarray(labels)).mean())

def methods(x, start, n):
    "Name → a function that does n iterations from `start` and returns (centroids, labels)."
    X, C, k = torch.from_numpy(x), torch.from_numpy(start), len(start)
    def ours(spherical):
        km = KMeans(k, max_iter=n, tol=0, spherical=spherical); labels = km.fit_predict(X, C); return km.centroids.numpy(), labels.numpy()
    def plain():
        km = Plain(k, max_iter=n, tol=-1, mode='euclidean'); labels = km.fit_predict(X, C.clone()); return km.centroids.numpy(), labels.numpy()
    def sklearn():
        km = Sklearn(k, init=start, n_init=1, max_iter=n, tol=0, algorithm='lloyd').fit(x); return km.cluster_centers_, km.labels_
    def with_faiss():
        km = faiss.Kmeans(x.shape[1], k, niter=n, nredo=1, max_points_per_centroid=len(x)); km.train(x, init_centroids=start.copy())
        return km.centroids, km.index.search(x, 1)[1][:, 0]
    def product():
        for _ in range(n): x @ start.T
        return
    return {'semdedup (spherical)': lambda: ours(True), 'semdedup (euclidean)': lambda: ours(False), 'fast-pytorch-kmeans': plain,
            'scikit-learn': sklearn, 'faiss': with_faiss, 'bare product x @ c.T': product}

def cpu():
    "The processor's name, where the system tells it."
    info = Path('/proc/cpuinfo')
    names = [l.split(':', 1)[1].strip() for l in info.read_text().splitlines() if l.startswith('model name')] if info.exists() else []
    return names[0] if names else platform.processor()

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--k', default='20,200'); p.add_argument('--rounds', type=int, default=5); p.add_argument('--iterations', type=int, default=10)
    a = p.parse_args()
    warnings.simplefilter('ignore')
    x, source = pixels()
    rows = []
    for k in map(int, a.k.split(',')):
        start = x[np.random.default_rng(0).choice(len(x), k, replace=False)]
        todo = methods(x, start, a.iterations)
        seconds, quality = {m: [] for m in todo}, {}
        for _ in range(a.rounds):
            for m, f in todo.items():
                t = time.perf_counter(); r = f(); seconds[m].append((time.perf_counter() - t) / a.iterations)
                if r: quality[m] = objective(x, *r)
        bare = min(seconds['bare product x @ c.T'])
        for m in todo:
            rows.append(dict(k=k, method=m, seconds=round(min(seconds[m]), 4), times_product=round(min(seconds[m]) / bare, 2),
                             mean_cosine=quality.get(m) and round(quality[m], 5)))
    result = dict(command=f'python benchmarks/kmeans.py --k {a.k} --rounds {a.rounds} --iterations {a.iterations}', data=source, shape=list(x.shape),
                  unit='seconds an iteration, fastest round', cpu=cpu(), cores=cpu_count(), torch=torch.__version__, rows=rows)
    Path(__file__).with_suffix('.json').write_text(json.dumps(result, indent=1) + '\n')
    for r in rows:
        print(f"k={r['k']:<4} {r['method']:<22} {r['seconds']:.4f} s/iteration  {r['times_product']:>5.2f} × product  mean cosine {r['mean_cosine'] or ''}")

if __name__ == '__main__': main()
