"""The engine alone: a network that learns a spiral, with nothing but tensors and gradients.

    python examples/engine_only.py
"""

import numpy as np

import zoo.autograd as zg
from zoo.autograd import Tensor, grad

rng = np.random.default_rng(0)
angle = np.sqrt(rng.random(400)) * 3 * np.pi
arm = rng.integers(0, 2, 400)
x = np.stack([np.cos(angle + np.pi * arm), np.sin(angle + np.pi * arm)], 1) * angle[:, None] / 10
x = (x + rng.normal(0, 0.02, x.shape)).astype(np.float32)  # (400, 2): two arms of a spiral

sizes = [2, 64, 64, 2]
weights = [Tensor(rng.normal(0, 1 / np.sqrt(a), (a, b)).astype(np.float32), requires_grad=True) for a, b in zip(sizes, sizes[1:])]
biases = [Tensor(rng.normal(0, 1, b).astype(np.float32), requires_grad=True) for b in sizes[1:]]


def network(x):
    for w, b in zip(weights[:-1], biases[:-1]):
        x = zg.tanh(x @ w + b)
    return x @ weights[-1] + biases[-1]


for step in range(1001):
    loss = zg.cross_entropy(network(x), arm)
    loss.backward()
    for p in weights + biases:
        p.data -= 0.5 * p.grad
        p.grad = None
    if step % 200 == 0:
        print(f"step {step:4}  loss {loss.item():.4f}")

print("right:", np.mean(network(x).numpy().argmax(1) == arm))

# The gradient with respect to a point, and the gradient of that gradient: where is the network most curved?
point = Tensor(x[:1], requires_grad=True)
(slope,) = (grad(network(point)[0, 1], point, create_graph=True),)
curvature = grad(slope.sum(), point)
print("at", x[0], "slope", slope.numpy()[0], "curvature", curvature.numpy()[0])
