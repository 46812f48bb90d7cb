"""The decoder Transformer in PyTorch, as `torch_sam` starts and trains it."""

import torch
import torch_sam
from torch import nn
from torch.nn import functional
from torch_sam import CONFIG, WEIGHTS, embedding, linear

HEAD_SIZE = 32


def rms_norm(name: str) -> nn.Module:
    norm = nn.RMSNorm(len(WEIGHTS[f"{name}/scale"]), eps=1e-6)
    norm.weight = torch_sam.weight(f"{name}/scale")
    return norm


class Block(nn.Module):
    """Attention and two linear layers, as in flatwide/models/gpt.py."""

    def __init__(self, name: str):
        super().__init__()
        for layer in ("query_key_value", "attention_output", "hidden", "hidden_output"):
            setattr(self, layer, linear(f"{name}/{layer}"))
        self.attention_norm, self.hidden_norm = rms_norm(f"{name}/attention_norm"), rms_norm(f"{name}/hidden_norm")

    def forward(self, inputs, turns):
        batch, length, size = inputs.shape
        num_heads = max(1, size // HEAD_SIZE)
        parts = self.query_key_value(self.attention_norm(inputs)).view(batch, length, 3, num_heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            turned(query, turns), turned(key, turns), value, is_causal=True
        )
        inputs = inputs + self.attention_output(attended.transpose(1, 2).reshape(batch, length, size))
        hidden = functional.gelu(self.hidden(self.hidden_norm(inputs)), approximate="tanh")
        return inputs + self.hidden_output(hidden)


def turned(vectors, turns):
    """Turn vectors [B, H, L, s], whose halves are the coordinates of planes, by the angles of their places."""
    cos, sin = turns
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class GPT(nn.Module):
    """Vectors of the tokens, blocks, and a linear layer on each token."""

    def __init__(self):
        super().__init__()
        self.words, self.output_norm, self.output = embedding("words"), rms_norm("output_norm"), linear("output")
        num_blocks = len({name.split("/")[0] for name in WEIGHTS if name.startswith("block_")})
        self.blocks = nn.ModuleList(Block(f"block_{number}") for number in range(1, num_blocks + 1))
        waves = 10_000.0 ** (-torch.arange(0, HEAD_SIZE, 2, dtype=torch.float64) / HEAD_SIZE)
        angles = torch.arange(CONFIG["context_length"])[:, None] * waves
        self.turns = angles.cos().float(), angles.sin().float()

    def forward(self, tokens):
        hidden = self.words(tokens)
        for block in self.blocks:
            hidden = block(hidden, self.turns)
        return self.output(self.output_norm(hidden))


model = GPT()


def loss_of(batch):
    outputs = model(batch["inputs"].long())
    return functional.cross_entropy(outputs.flatten(0, 1), batch["targets"].long().flatten())


torch_sam.train(model, loss_of, torch_sam.read_batches())
