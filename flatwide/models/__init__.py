"""Model families by name: the value of `config.model`, and where its builder is.

A builder is `name(example, num_outputs, *, <config fields it reads>) -> Model`; `example` holds shape and dtype of one
example's inputs, without the batch axis. A user's own builder is named `path/to/file.py:name` instead.
"""

MODELS: dict[str, str] = {
    "MLP": "flatwide.models.mlp:mlp",
    "ResNet18": "flatwide.models.resnet:resnet18",
    "ResNet50": "flatwide.models.resnet:resnet50",
    "VGG11": "flatwide.models.vgg:vgg11",
    "OneHiddenLayer": "flatwide.models.shallow:one_hidden_layer",
    "LinearNetwork": "flatwide.models.shallow:linear_network",
    "TwoLayerFrozenHead": "flatwide.models.shallow:two_layer_frozen_head",
    "ViT": "flatwide.models.vit:vit",
    "TaggingTransformer": "flatwide.models.transformer:tagging_transformer",
    "LSTM": "flatwide.models.lstm:lstm",
    "GPT": "flatwide.models.gpt:gpt",
    "GCN": "flatwide.models.gcn:gcn",
    "ActorCritic": "flatwide.models.actor_critic:actor_critic",
}

ALIASES: dict[str, str] = {"ResNet50_ImageNet": "ResNet50"}  # names of the paper's code

# Blocks of each stage where `config.num_blocks` is None; here, so that a run's identity knows them without Flax.
NUM_BLOCKS: dict[str, tuple[int, ...]] = {"ResNet18": (2, 2, 2, 2), "ResNet50": (3, 4, 6, 3)}
