"""A sentence-transformers model of a few thousand weights, built where it is needed."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, BertTokenizerFast

from climb.testing.contracts_text import TEXTS

WIDTH = 32


def build_encoder(
    folder,
    *,
    pooling="mean",
    max_tokens=64,
    dense=None,
    padding_side="right",
    include_prompt=True,
):
    """Save a random BERT as [Transformer, Pooling, (Dense), Normalize], and return its folder.

    Args:
        folder: an empty folder.
        pooling: mode of the module `Pooling`.
        max_tokens: positions of the model.
        dense: width of a further module `Dense`; None leaves it out.
        padding_side: of the tokenizer.
        include_prompt: whether pooling reads the tokens of a prompt.
    """
    import torch

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(TEXTS, vocab_size=200, show_progress=False)
    tokenizer = BertTokenizerFast(
        tokenizer_object=trained._tokenizer,
        model_max_length=max_tokens,
        padding_side=padding_side,
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=max_tokens,
        initializer_range=0.3,  # vectors of different texts differ clearly
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    parts = [
        modules.Transformer(str(folder / "bert"), max_seq_length=max_tokens),
        modules.Pooling(WIDTH, pooling, include_prompt=include_prompt),
        *([modules.Dense(WIDTH, dense)] if dense else []),
        modules.Normalize(),
    ]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"
