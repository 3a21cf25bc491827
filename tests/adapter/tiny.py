"""Tiny real pipelines, built from configs offline, and ways to draw with them."""

import functools
import tempfile
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    KolorsPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    VQModel,
)
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
from sentencepiece import SentencePieceTrainer
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

from llmdiff.adapter import LLMDiffAdapter
from tiny_base import build_tokenizer
from tiny_parts import assemble_sd, build_clip, build_unet, build_vae, silenced

PROMPT = "a red cup"
CONTEXT_WIDTH = 24
LETTERS = "abcdefghijklmnopqrstuvwxyz,."
POOLED = {  # a U-Net that takes sizes and a pooled vector of 12 numbers
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 12 + 6 * 4,
    "transformer_layers_per_block": 2,
    "use_linear_projection": True,
    "cross_attention_dim": CONTEXT_WIDTH,
}


def build_clip_tokenizer() -> CLIPTokenizer:
    symbols = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[], model_max_length=16)


def build_t5(width: int = 12) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=64, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).eval()


def build_sd(seed: int = 0, **unet_changes: Any) -> StableDiffusionPipeline:
    """A random Stable Diffusion of 8 x 8 latents with three cross-attention layers and more."""
    torch.manual_seed(seed)
    return assemble_sd(
        vae=build_vae(),
        text_encoder=build_clip(CONTEXT_WIDTH),
        tokenizer=build_clip_tokenizer(),
        unet=build_unet(**{"cross_attention_dim": CONTEXT_WIDTH} | unet_changes),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
    )


def build_sdxl(**unet_changes: Any) -> StableDiffusionXLPipeline:
    """A random SDXL: two text encoders, a pooled vector and two transformer blocks per layer."""
    torch.manual_seed(0)
    pipe = StableDiffusionXLPipeline(
        vae=build_vae(),
        text_encoder=build_clip(12),
        text_encoder_2=build_clip(12, CLIPTextModelWithProjection),
        tokenizer=build_clip_tokenizer(),
        tokenizer_2=build_clip_tokenizer(),
        unet=build_unet(**POOLED | unet_changes),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        add_watermarker=False,
    )
    return silenced(pipe)


@functools.cache
def chatglm_vocabulary() -> Any:
    """A file with a SentencePiece model of single letters; it lasts as long as this process."""
    file = tempfile.NamedTemporaryFile(suffix=".model")  # noqa: SIM115 - closed, and gone, when the process ends
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(LETTERS)]),
        model_writer=file,
        model_type="char",
        vocab_size=64,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    file.flush()
    return file


def build_chatglm() -> ChatGLMModel:
    """A random ChatGLM, whose class leaves its weights as it finds them in memory."""
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=64,
        hidden_size=12,
        ffn_hidden_size=16,
        kv_channels=8,
        num_attention_heads=2,
        seq_length=256,
        original_rope=True,
    )
    model = ChatGLMModel(config, empty_init=False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(model.get_input_embeddings().weight)  # so that prompts differ
    return model.eval()


def build_kolors() -> KolorsPipeline:
    """A random Kolors: a U-Net like SDXL's that projects the text features of its one text encoder, a ChatGLM."""
    torch.manual_seed(0)
    pipe = KolorsPipeline(
        vae=build_vae(),
        text_encoder=build_chatglm(),
        tokenizer=ChatGLMTokenizer(chatglm_vocabulary().name),
        unet=build_unet(**POOLED, encoder_hid_dim=12, encoder_hid_dim_type="text_proj"),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
    )
    return silenced(pipe)


def build_pixart() -> PixArtSigmaPipeline:
    """A random PixArt-Sigma: a transformer that projects its text features and learns its sigmas."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        caption_channels=12,
        sample_size=8,
        use_additional_conditions=False,
    ).eval()
    return silenced(
        PixArtSigmaPipeline(
            build_clip_tokenizer(), build_t5(), build_vae(), transformer, DDIMScheduler(clip_sample=False)
        )
    )


def build_sana() -> SanaPipeline:
    """A random Sana: linear self-attention, cross-attention with heads of its own, and a flow for a prediction."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=4,
        cross_attention_head_dim=4,
        cross_attention_dim=16,
        caption_channels=12,
        sample_size=8,
    ).eval()
    gemma = Gemma2Config(
        vocab_size=64,
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    two = {"block_types": "ResBlock", "block_out_channels": (8, 8), "layers_per_block": (1, 1)}
    halves = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in two.items()}
    vae = AutoencoderDC(
        latent_channels=4, encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), **halves
    ).eval()
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return silenced(SanaPipeline(build_tokenizer(), Gemma2Model(gemma).eval(), vae, transformer, scheduler))


def build_kandinsky3() -> Kandinsky3Pipeline:
    """A random Kandinsky 3: a U-Net of its own kind, which averages its projected text features into the time."""
    torch.manual_seed(0)
    unet = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=8,
        groups=4,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(8, 16),
        cross_attention_dim=20,
        encoder_hid_dim=12,
    ).eval()
    movq = VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
        latent_channels=4,
    ).eval()
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)
    return silenced(Kandinsky3Pipeline(build_clip_tokenizer(), build_t5(), unet, scheduler, movq))


def build_hunyuan() -> HunyuanDiTPipeline:
    """A random Hunyuan-DiT: a transformer that reads a BERT and a T5 side by side."""
    torch.manual_seed(0)
    transformer = HunyuanDiT2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        hidden_size=16,
        in_channels=4,
        patch_size=2,
        sample_size=8,
        num_layers=4,
        cross_attention_dim=20,
        cross_attention_dim_t5=16,
        pooled_projection_dim=8,
    ).eval()
    bert = BertConfig(vocab_size=64, hidden_size=20, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    pipe = HunyuanDiTPipeline(
        build_vae(levels=4),
        BertModel(bert).eval(),
        build_clip_tokenizer(),
        transformer,
        DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=build_t5(16),
        tokenizer_2=build_clip_tokenizer(),
    )
    return silenced(pipe)


def draw(pipe: DiffusionPipeline, prompt: Any = PROMPT, seed: int = 7, **options: Any) -> Tensor:
    """The latents that a pipeline ends with: (B, 4, 8, 8)."""
    settings = {"num_inference_steps": 2, "output_type": "latent", "height": 16, "width": 16}
    return pipe(prompt, generator=torch.Generator().manual_seed(seed), **settings | options).images


def perturb(adapter: LLMDiffAdapter, seed: int = 0, size: float = 0.3) -> LLMDiffAdapter:
    """Moves every parameter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return adapter
