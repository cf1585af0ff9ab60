"""A mixture-of-experts transformer over bytes, in PyTorch: what the Swift model is held against."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Configuration:
    """The shape of a model; the same names stand in the metadata of its file."""

    vocabulary: int = 256
    context: int = 512
    hidden: int = 192
    layers: int = 3
    heads: int = 6
    experts: int = 8
    experts_per_token: int = 2
    expert_hidden: int = 192
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-5


class Expert(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, c: Configuration):
        super().__init__()
        self.gate = nn.Linear(c.hidden, c.expert_hidden, bias=False)
        self.up = nn.Linear(c.hidden, c.expert_hidden, bias=False)
        self.down = nn.Linear(c.expert_hidden, c.hidden, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Norm(nn.Module):
    """x / sqrt(mean of squares + epsilon) * weight."""

    def __init__(self, c: Configuration):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c.hidden))
        self.epsilon = c.norm_epsilon

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class Attention(nn.Module):
    """Causal attention with rotary positions: element i of a head turns with element i + half."""

    def __init__(self, c: Configuration):
        super().__init__()
        self.heads = c.heads
        self.query = nn.Linear(c.hidden, c.hidden, bias=False)
        self.key = nn.Linear(c.hidden, c.hidden, bias=False)
        self.value = nn.Linear(c.hidden, c.hidden, bias=False)
        self.output = nn.Linear(c.hidden, c.hidden, bias=False)
        half = c.hidden // c.heads // 2
        rates = c.rotary_base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.arange(c.context, dtype=torch.float64)[:, None] * rates
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)
        mask = torch.full((c.context, c.context), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def turn(self, x):
        length = x.shape[-2]
        first, second = x.chunk(2, dim=-1)
        cosine, sine = self.cosine[:length], self.sine[:length]
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)

    def forward(self, x):
        batch, length, hidden = x.shape
        split = lambda t: t.view(batch, length, self.heads, -1).transpose(1, 2)
        query, key = self.turn(split(self.query(x))), self.turn(split(self.key(x)))
        scores = query @ key.transpose(-1, -2) * (hidden // self.heads) ** -0.5
        scores = (scores + self.mask[:length, :length]).softmax(-1)
        mixed = scores @ split(self.value(x))
        return self.output(mixed.transpose(1, 2).reshape(batch, length, hidden))


class Mixture(nn.Module):
    """A shared expert for every token, and the top-k of the routed ones, weighted."""

    def __init__(self, c: Configuration):
        super().__init__()
        self.top_k = c.experts_per_token
        self.router = nn.Linear(c.hidden, c.experts, bias=False)
        self.experts = nn.ModuleList(Expert(c) for _ in range(c.experts))
        self.shared = Expert(c)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        probabilities = self.router(tokens).softmax(-1)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        routed = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, places = (chosen == number).nonzero(as_tuple=True)
            output = expert(tokens[rows]) * weights[rows, places, None]
            routed = routed.index_add(0, rows, output)
        # Switch Transformer's loss: 1 where all experts have the same share of tokens.
        share = F.one_hot(chosen, len(self.experts)).float().sum(1).mean(0) / self.top_k
        balance = len(self.experts) * (share * probabilities.mean(0)).sum()
        return (self.shared(tokens) + routed).view_as(x), balance


class Layer(nn.Module):
    def __init__(self, c: Configuration):
        super().__init__()
        self.attention_norm, self.attention = Norm(c), Attention(c)
        self.mixture_norm, self.mixture = Norm(c), Mixture(c)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        mixed, balance = self.mixture(self.mixture_norm(x))
        return x + mixed, balance


class Model(nn.Module):
    """Token ids [batch, length] to logits [batch, length, vocabulary], and the balance loss."""

    def __init__(self, c: Configuration):
        super().__init__()
        self.embedding = nn.Embedding(c.vocabulary, c.hidden)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = Norm(c)
        nn.init.normal_(self.embedding.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.05)

    def forward(self, tokens):
        x = self.embedding(tokens)
        balances = []
        for layer in self.layers:
            x, balance = layer(x)
            balances.append(balance)
        logits = self.norm(x) @ self.embedding.weight.T
        return logits, torch.stack(balances).mean()
