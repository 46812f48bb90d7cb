"""The tagging Transformer in PyTorch, as `torch_sam` starts and trains it."""

import math

import torch
import torch_sam
from torch import nn
from torch.nn import functional
from torch_sam import CONFIG, WEIGHTS, embedding, layer_norm, linear


class Block(nn.Module):
    """Attention and two linear layers, as in flatwide/models/transformer.py."""

    def __init__(self, name: str):
        super().__init__()
        for layer in ("query_key_value", "attention_output", "hidden", "hidden_output"):
            setattr(self, layer, linear(f"{name}/{layer}"))
        self.attention_norm, self.hidden_norm = layer_norm(f"{name}/attention_norm"), layer_norm(f"{name}/hidden_norm")

    def forward(self, inputs, is_word):
        batch, length, size = inputs.shape
        num_heads = max(1, size // 64)
        parts = self.query_key_value(self.attention_norm(inputs)).view(batch, length, 3, num_heads, size // num_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        rate = CONFIG["dropout"]
        attended = functional.scaled_dot_product_attention(query, key, value, is_word, dropout_p=rate)
        attended = self.attention_output(attended.transpose(1, 2).reshape(batch, length, size))
        inputs = inputs + functional.dropout(attended, rate)
        hidden = functional.dropout(functional.elu(self.hidden(self.hidden_norm(inputs))), rate)
        return inputs + functional.dropout(self.hidden_output(hidden), rate)


class Tagger(nn.Module):
    """Word vectors, positions, blocks, and a linear layer on each word."""

    def __init__(self):
        super().__init__()
        self.words, self.output_norm, self.output = embedding("words"), layer_norm("output_norm"), linear("output")
        num_blocks = len({name.split("/")[0] for name in WEIGHTS if name.startswith("block_")})
        self.blocks = nn.ModuleList(Block(f"block_{number}") for number in range(1, num_blocks + 1))
        size = self.words.embedding_dim
        waves = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
        angles = torch.arange(256)[:, None] * waves
        self.positions = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(256, -1)[:, :size]

    def forward(self, tokens):
        is_word = (tokens != 0)[:, None, None, :]
        hidden = functional.dropout(self.words(tokens), CONFIG["dropout"]) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, is_word)
        return self.output(self.output_norm(hidden))


model = Tagger()


def loss_of(batch):
    outputs, targets = model(batch["inputs"]).flatten(0, 1), batch["targets"].flatten().long()
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return torch.dot(losses, batch["weights"].flatten()) / batch["weights"].sum()


torch_sam.train(model, loss_of, torch_sam.read_batches())
