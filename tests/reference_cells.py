"""Published cells as their papers write them, one step in plain numpy."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lem(state, u, p, dt):
    """Rusch et al. (2022), equation 3; state (y, z)."""
    y, z = np.split(state, 2)
    V, b = np.split(p["weight_ih"], 4), np.split(p["bias"], 4)
    W1, W2, Wz = np.split(p["weight_y"], 3)
    step = dt * sigmoid(W1 @ y + V[0] @ u + b[0])
    other = dt * sigmoid(W2 @ y + V[1] @ u + b[1])
    z = (1 - step) * z + step * np.tanh(Wz @ y + V[2] @ u + b[2])
    y = (1 - other) * y + other * np.tanh(p["weight_z"] @ z + V[3] @ u + b[3])
    return np.concatenate([y, z])


def min_gru(h, u, p):
    """Feng et al. (2024), section 3.1."""
    (Wz, Wh), (bz, bh) = np.split(p["weight_ih"], 2), np.split(p["bias"], 2)
    z = sigmoid(Wz @ u + bz)
    return (1 - z) * h + z * (Wh @ u + bh)


def min_lstm(h, u, p):
    """Feng et al. (2024), section 3.2."""
    (Wf, Wi, Wh), (bf, bi, bh) = np.split(p["weight_ih"], 3), np.split(p["bias"], 3)
    f, i = sigmoid(Wf @ u + bf), sigmoid(Wi @ u + bi)
    return f / (f + i) * h + i / (f + i) * (Wh @ u + bh)


def ind_rnn(h, u, p, nonlinearity):
    """Li et al. (2018), equation 2."""
    inner = p["weight_ih"] @ u + p["weight_hh"] * h + p["bias"]
    return np.maximum(inner, 0) if nonlinearity == "relu" else np.tanh(inner)


ACTIVATIONS = {
    "lecun_tanh": lambda x: 1.7159 * np.tanh(0.666 * x),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
}


def cfc_backbone(x, u, p, tau, activation):
    """Hasani et al. (2022), equation 4, f, g, h one layer each of what shared layers make of input and state."""
    z = p["weight_ih"] @ u + p["weight_hh"] @ x + p.get("bias", 0.0)
    for k in range(sum(name.startswith("weights.") for name in p)):
        z = p[f"weights.{k}"] @ ACTIVATIONS[activation](z) + p.get(f"biases.{k}", 0.0)
    f, g, h = np.split(z, 3)
    s = sigmoid(-f * tau)
    return s * np.tanh(g) + (1 - s) * np.tanh(h)


def cfc(x, u, p, tau):
    """Hasani et al. (2022), equation 4, one layer for each of f, g, h."""
    f, g, h = np.split(p["weight_ih"] @ u + p["weight_hh"] @ x + p["bias"], 3)
    s = sigmoid(-f * tau)
    return s * np.tanh(g) + (1 - s) * np.tanh(h)
