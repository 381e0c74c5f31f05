"""`transformers:<name or folder>` for sound: the Audio Spectrogram Transformer, and CLAP (sound and text).

Both hear one window of a file. AST hears its first 10.24 s, as transformers' own extractor cuts it. CLAP hears the
10 s in the middle: its extractor draws them by lot, and a vector must not depend on that. For the same reason CLAP's
fusion of three more windows, drawn by lot too, is left out: each clip is given to it as a short one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    ASTFeatureExtractor,
    ASTModel,
    AutoConfig,
    AutoTokenizer,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapModel,
)

from embeddings.encoder import space_of
from embeddings.hub import quiet_loading, weights_by_name
from embeddings.preprocess.audio import AudioPreprocessConfig, AudioPreprocessor
from embeddings.preprocess.mel import MelConfig
from embeddings.preprocess.text import TextPreprocessConfig, TextPreprocessor, text_sha256
from embeddings.torch_encoder import TorchEncoder, weights_sha256
from embeddings.transformers_encoder import BRING, PREFIX, tokenizer_json_of
from recsys.errors import ConfigError

_INPUT = "spectrogram"
_FILLS = {"repeatpad": "repeat_then_silence", "repeat": "repeat", "pad": "silence"}
_SHAPELESS = ("num_attention_heads", "hidden_act", "layer_norm_eps")
_AST_FACTS = (*_SHAPELESS, "patch_size", "frequency_stride", "time_stride")
_CLAP_TEXT_FACTS = (*_SHAPELESS, "projection_hidden_act")
_CLAP_FACTS = (
    *_CLAP_TEXT_FACTS,
    "window_size",
    "spec_size",
    "patch_size",
    "patch_stride",
    "depths",
    "enable_fusion",
)


def load_audio_transformer(
    spec: str, *, device: str = "cpu", bf16: bool = False
) -> tuple[TorchEncoder, TorchEncoder | None]:
    """The encoder of sound, and the text encoder of the same space (CLAP with both towers only).

    Raises:
        ConfigError: the model hears nothing, or prepares sound in a way that is not built here.
        WeightsUnavailable: no folder, no cache and no hub has it.
    """
    name = spec.removeprefix(PREFIX)
    with weights_by_name(spec, bring=BRING, local=Path(name).is_dir()), quiet_loading():
        kind = AutoConfig.from_pretrained(name).model_type
        if kind == "audio-spectrogram-transformer":
            return load_ast(name, device=device, bf16=bf16), None
        if kind == "clap":
            return load_clap(name, device=device, bf16=bf16)
        if kind == "clap_audio_model":
            model: Any = ClapAudioModelWithProjection.from_pretrained(name, dtype=torch.float32)
            facts = {"audio": _facts(model.config, _CLAP_FACTS)}
            tower = _ClapAudio(model.audio_model, model.audio_projection)
            return _clap_audio(name, tower, model.config, weights_sha256(model, facts), device, bf16), None
    raise ConfigError(f"{spec} is a {kind}, which does not hear; name an AST or CLAP model, logmel or none")


def load_ast(name: str, *, device: str = "cpu", bf16: bool = False) -> TorchEncoder:
    """AST without its classifier: the mean of its two summary tokens, as transformers pools it."""
    model: Any = ASTModel.from_pretrained(name, dtype=torch.float32)
    preprocessor = AudioPreprocessor(ast_preprocessing(ASTFeatureExtractor.from_pretrained(name)))
    config = model.config
    if (preprocessor.config.n_frames, preprocessor.config.mel.n_mels) != (config.max_length, config.num_mel_bins):
        raise ConfigError(f"{name}: its preprocessor_config.json and its config.json tell of other spectrograms")
    weights = weights_sha256(model, _facts(config, _AST_FACTS))
    space = space_of(f"{PREFIX}ast", "audio", weights, preprocessor.config, int(config.hidden_size))
    return _SoundEncoder(_Ast(model), space, preprocessor, input_names=(_INPUT,), device=device, bf16=bf16)


def load_clap(name: str, *, device: str = "cpu", bf16: bool = False) -> tuple[TorchEncoder, TorchEncoder]:
    """CLAP's two towers: sound and text in one space."""
    return clap_towers(name, ClapModel.from_pretrained(name, dtype=torch.float32), device=device, bf16=bf16)


def clap_towers(name: str, model: Any, *, device: str = "cpu", bf16: bool = False) -> tuple[TorchEncoder, TorchEncoder]:
    """The same of a ClapModel that is loaded already; `name` tells where its tokenizer and its extractor lie."""
    config = model.config
    audio_facts, text_facts = _facts(config.audio_config, _CLAP_FACTS), _facts(config.text_config, _CLAP_TEXT_FACTS)
    weights = weights_sha256(model, {"audio": audio_facts, "text": text_facts})
    audio_tower = _ClapAudio(model.audio_model, model.audio_projection)
    audio = _clap_audio(name, audio_tower, config.audio_config, weights, device, bf16)
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer_json = tokenizer_json_of(name, tokenizer)
    text_config = config.text_config
    preprocessor = TextPreprocessor(
        TextPreprocessConfig(
            tokenizer_sha256=text_sha256(tokenizer_json),
            # Its position table, like RoBERTa's, begins behind the padding id.
            max_length=int(text_config.max_position_embeddings) - int(text_config.pad_token_id) - 1,
            pad_id=int(text_config.pad_token_id),
        ),
        tokenizer_json,
    )
    text = TorchEncoder(
        _ClapText(model),
        space_of(f"{PREFIX}clap", "text", weights, preprocessor.config, int(config.projection_dim)),
        preprocessor,
        input_names=("input_ids", "attention_mask"),
        device=device,
        bf16=bf16,
    )
    return audio, text


def ast_preprocessing(extractor: ASTFeatureExtractor) -> AudioPreprocessConfig:
    """What an extractor does, as our configuration. Raises ConfigError: what is not built here."""
    rate, n_frames = int(extractor.sampling_rate), int(extractor.max_length)
    if rate != 16_000:
        raise ConfigError(f"this AST hears {rate} Hz; only models for 16000 Hz are supported")
    mel = MelConfig(
        sample_rate=rate,
        frame_length=400,
        hop_length=160,
        fft_length=512,
        window="hann_symmetric",
        remove_dc=True,
        preemphasis=0.97,
        n_mels=int(extractor.num_mel_bins),
        low_hz=20.0,
        high_hz=rate / 2,
        mel_scale="kaldi",
        log="ln",
        floor=1.192092955078125e-07,  # float32's epsilon, as Kaldi has it
    )
    return AudioPreprocessConfig(
        mel=mel,
        window_samples=(n_frames - 1) * mel.hop_length + mel.frame_length,
        place="start",
        n_frames=n_frames,
        fill="zero_frames",
        mean=float(extractor.mean) if extractor.do_normalize else 0.0,
        std=2.0 * float(extractor.std) if extractor.do_normalize else 1.0,
    )


def clap_preprocessing(extractor: ClapFeatureExtractor) -> AudioPreprocessConfig:
    """What an extractor does with clips that are not too long. Raises ConfigError: what is not built here."""
    if extractor.padding not in _FILLS or extractor.truncation not in ("fusion", "rand_trunc"):
        raise ConfigError(f"CLAP with padding {extractor.padding!r}, truncation {extractor.truncation!r} is not built")
    is_fused = extractor.truncation == "fusion"
    samples = int(extractor.max_length_s * extractor.sampling_rate)
    mel = MelConfig(
        sample_rate=int(extractor.sampling_rate),
        frame_length=int(extractor.fft_window_size),
        hop_length=int(extractor.hop_length),
        fft_length=int(extractor.fft_window_size),
        centred=True,
        n_mels=int(extractor.feature_size),
        low_hz=float(extractor.frequency_min),
        high_hz=float(extractor.frequency_max),
        mel_scale="htk" if is_fused else "slaney",
        area_normalised=not is_fused,
        log="db",
        floor=1e-10,
    )
    return AudioPreprocessConfig(
        mel=mel,
        window_samples=samples,
        place="centre",
        n_frames=samples // mel.hop_length + 1,
        fill=cast(Any, _FILLS[extractor.padding]),
    )


class _SoundEncoder(TorchEncoder):
    """A torch encoder whose example input is a spectrogram."""

    def _example(self) -> dict[str, Any]:
        preprocessor = cast(AudioPreprocessor, self.preprocessor)
        config = preprocessor.config
        noise = torch.rand(2, config.window_samples, generator=torch.Generator().manual_seed(0)).numpy() - 0.5
        return preprocessor.collate([preprocessor.of_waveform(waveform) for waveform in noise])


def _clap_audio(name: str, tower: torch.nn.Module, config: Any, weights: str, device: str, bf16: bool) -> TorchEncoder:
    preprocessor = AudioPreprocessor(clap_preprocessing(ClapFeatureExtractor.from_pretrained(name)))
    space = space_of(f"{PREFIX}clap", "audio", weights, preprocessor.config, int(config.projection_dim))
    return _SoundEncoder(tower, space, preprocessor, input_names=(_INPUT,), device=device, bf16=bf16)


class _Ast(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model(input_values=spectrogram).pooler_output)


class _ClapAudio(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, projection: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.projection = projection
        encoder: Any = model.audio_encoder
        self.is_fused = bool(encoder.enable_fusion)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        channels = spectrogram[:, None]  # B x 1 x T x M
        is_longer = torch.zeros(1, dtype=torch.bool) if self.is_fused else None
        # A model with fusion looks at its other three channels only for clips that are longer.
        pooled = self.model(input_features=channels, is_longer=is_longer).pooler_output
        return cast(torch.Tensor, self.projection(pooled))


class _ClapText(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.text_model
        self.projection = model.text_projection

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        pooled = self.model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return cast(torch.Tensor, self.projection(pooled))


def _facts(config: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(config, name, None) for name in names}
