"""A public name or argument cannot vanish, or appear, unnoticed."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
import torch

import diffsegkit

API = {
    "diffsegkit": {
        "AggregatedAttention": "probs, grid, source=None",
        "Aggregator": "",
        "Assigner": "",
        "AttentionMap": "probs, grid, name='', count=1",
        "AttentionSource": "",
        "Merger": "",
        "MergingRound": "members, seeds, threshold",
        "Namer": "",
        "Preset": "summary, source, aggregator=<factory>, merger=<factory>, assigner=<factory>, "
        "namer=None, image_size=512, resize='fit', antialias=False, requires=(), extra=''",
        "Proposals": "maps, rounds=(), scores=None",
        "Segmentation": "labels, proposals, image_size, crop_box=None, times=<factory>, names=None",
        "Segmenter": "source, aggregator, merger, assigner, *, namer=None, image_size=512, resize='fit', "
        "antialias=False",
        "SourceOutput": "attention, features=(), cross=(), proposals=None, images=None, "
        "prompts=None",
        "close_gaps": "labels, proposals",
        "list_components": "kind=None, pattern='*'",
        "load_image": "image",
        "validation": "enabled",
    },
    "diffsegkit.aggregators": {
        "ResolutionAggregator": "weighting='resolution', grid=None, storage='auto'"
    },
    "diffsegkit.assigners": {
        "ArgmaxAssigner": "",
        "RefiningAssigner": "assigner=None, max_side=1024",
        "guide_images": "aggregated, who, size, max_side",
    },
    "diffsegkit.data": {
        "ADE20K": "root, *, split='validation', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "BSDS500": "root, *, split='val', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "COCOObject": "root, *, split='val2017', curated=True, "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "COCOPanoptic27": "root, *, split='val2017', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "COCOStuff27": "root, *, split='val2017', curated=True, "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "CamVid": "root, *, split='val', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "Cityscapes27": "root, *, split='val', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "ClassMapping": "classes, values, colours=<factory>, ignore_unlisted=False",
        "EvaluationSampler": "indices, *, rank=0, world_size=1",
        "Folder": "images, labels=None, *, root='.', mapping=None, class_names=None, "
        "num_classes=None, background=None, crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "IGNORE": None,
        "PascalContext": "root, *, split='val', background_class=True, "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "PascalVOC": "root, *, split='val', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
        "Record": "id, image, annotations=()",
        "Sample": "id, path, image, annotations=()",
        "SegmentationDataModule": "root, *, split='val', "
        "crop=None, ids=None, limit=None, batch_size=1, num_workers=0",
    },
    "diffsegkit.evaluation": {
        "EvaluationModule": "methods, directory, *, protocol=None, variant='original', "
        "background='class', num_clusters=None, num_segments='none', needs=(), pictures=1, "
        "resume=False, overwrite=False, table=None, metadata=None",
        "LabelMapWriter": "directory, configuration, *, skip_existing=False",
        "Protocol": "name, variant='original', background='class', num_clusters=None",
    },
    "diffsegkit.images": {
        "ImageLike": None,
        "centre_crop": "size",
        "input_size": "size, image_size, resize, multiple",
        "load_image": "image",
        "load_images": "images",
        "resize_image": "image, size, antialias",
    },
    "diffsegkit.interfaces": {
        "AggregatedAttention": "probs, grid, source=None",
        "Aggregator": "",
        "Assigner": "",
        "AttentionMap": "probs, grid, name='', count=1",
        "AttentionSource": "",
        "Grid": None,
        "Merger": "",
        "MergingRound": "members, seeds, threshold",
        "Namer": "",
        "Proposals": "maps, rounds=(), scores=None",
        "SourceOutput": "attention, features=(), cross=(), proposals=None, images=None, "
        "prompts=None",
        "TokenisedPrompt": "text, spans",
        "require_features": "given, who, *, index=-1",
        "validation": "enabled",
    },
    "diffsegkit.kernels": {
        "absorb": "anchors, maps, threshold, *, locations=None, values=None, out=None, "
        "backend='auto', precision='float32'",
        "accumulate_upsampled": "out, probs, grid, weight=1.0, *, target=None, backend='auto'",
        "greedy_groups": "close, *, overlap=True, backend='auto'",
        "kernel_backend": "backend",
        "mean_attention": "q, k, scale=None, *, out=None, weight=1.0, backend='auto'",
        "pairwise_kl": "x, y=None, *, backend='auto', precision='float32'",
        "upsampled_argmax": "maps, size, *, backend='auto'",
    },
    "diffsegkit.mergers": {
        "AnchorSampler": "",
        "GridAnchors": "",
        "IterativeKLMerger": "thresholds=(1.1, 1.1, 1.1), points_per_side=16, anchors=None, "
        "overlap=True, refine=False, anchor_precision='float32'",
        "KMeansMerger": "num_segments=6, seed=0",
        "RandomAnchors": "seed=0",
    },
    "diffsegkit.mergers.anchors": {
        "AnchorSampler": "",
        "GridAnchors": "",
        "RandomAnchors": "seed=0",
    },
    "diffsegkit.metrics": {
        "BoundaryFMeasure": "tolerance=0.0075, **kwargs",
        "ClusteringScore": "score='adjusted_rand_score', ignore_index=None, **kwargs",
        "DatasetMatchedAccuracy": "num_classes, num_clusters=None, ignore_index=-1, **kwargs",
        "DatasetMatchedMeanIoU": "num_classes, num_clusters=None, ignore_index=-1, **kwargs",
        "ImageMatchedAccuracy": "num_classes, variant='original', ignore_index=-1, "
        "background=None, **kwargs",
        "ImageMatchedMeanIoU": "num_classes, variant='original', ignore_index=-1, "
        "background=None, **kwargs",
        "ImageMetric": "**kwargs",
        "ProbabilisticRandIndex": "ignore_index=None, **kwargs",
        "SegmentCount": "**kwargs",
        "SegmentationCovering": "ignore_index=None, **kwargs",
        "VariationOfInformation": "ignore_index=None, **kwargs",
    },
    "diffsegkit.metrics.functional": {
        "BoundaryCounts": "matched_pred, total_pred, matched_target, total_target",
        "Contingency": "regions, segments, counts",
        "MatchedCounts": "tp, fp, fn",
        "boundary_counts": "preds, targets, tolerance=0.0075",
        "boundary_f_measure": "preds, targets, tolerance=0.0075",
        "class_iou": "tp, fp, fn",
        "count_overlaps": "preds, target, ignore_index=None",
        "label_boundaries": "labels",
        "match_segments": "histogram, variant='original'",
        "matched_counts": "histogram, variant='original', background=None",
        "mean_iou": "tp, fp, fn",
        "overlap_histogram": "preds, target, num_classes, ignore_index=-1, num_segments=None",
        "pixel_accuracy": "tp, total",
        "probabilistic_rand_index": "preds, targets, ignore_index=None",
        "segmentation_covering": "preds, targets, ignore_index=None",
        "variation_of_information": "preds, targets, ignore_index=None",
    },
    "diffsegkit.errors": {
        "BackendError": None,
        "ComponentError": None,
        "DatasetError": None,
        "DiffSegKitError": None,
        "DownloadError": None,
        "ImageError": None,
        "MergingError": None,
        "UsageError": None,
        "WeightsError": None,
    },
    "diffsegkit.presets": {
        "AFFINITY": None,
        "DIFFSEG": None,
        "DIFFSEG_DINOV2B": None,
        "DIFFSEG_DINOV2S": None,
        "DIFFSEG_DINOV3S": None,
        "DIFFSEG_SD14": None,
        "DIFFSEG_SD14_CITYSCAPES": None,
        "DIFFSEG_SD21": None,
        "DIFFSEG_SDXL": None,
        "DIFFSEG_SSD1B": None,
        "KMEANS_C_SD14": None,
        "Part": None,
        "Preset": None,
        "part": "class_path, **init_args",
    },
    "diffsegkit.registry": {
        "Component": "kind, name, target, distribution, version, summary",
        "GROUPS": None,
        "check": "component",
        "find_components": "kind=None, pattern='*'",
        "list_components": "kind=None, pattern='*'",
        "load": "kind, name",
        "locate": "kind, name",
        "resolve": "kind, name",
    },
    "diffsegkit.segmenters": {
        "Felzenszwalb": "scale=1000.0, sigma=0.8, min_size=20",
        "ImageSegmenter": None,
        "OneSegment": "",
        "SLIC": "num_segments=6, compactness=10.0, sigma=0.0",
    },
    "diffsegkit.sources": {
        "AffinitySource": "cells=(64, 32), colour=1.0, lightness=0.7, texture=1.0, "
        "contour=1.5, scale=0.1, temperature=0.15",
        "CachedSource": "source, dir, max_gib=50.0",
        "StableDiffusionSource": "model='CompVis/stable-diffusion-v1-4', *, revision=None, "
        "variant=None, config=None, timestep=300, noise=False, latent='mean', prompt='', "
        "layers=None, average=True, features=(), cross=False, image_size=None, seed=0, "
        "dtype='auto', device=None",
        "VisionTransformerSource": "model='facebook/dinov2-small', revision=None, variant=None, "
        "layers=(-4, -3, -2, -1), facet='qk', temperature=1.0, average=True, features=None, "
        "feature_layers=(-1,), image_size=None, mean=None, std=None, dtype='auto', device=None",
    },
    "diffsegkit.sources.networks": {
        "VAEEncoder": None,
        "frozen": "model",
        "load_network": "model_class, folder, component, dtype, *, variant=None, "
        "family='Stable Diffusion'",
        "reading": "path, family='Stable Diffusion'",
    },
    "diffsegkit.visualization": {
        "draw_overlay": "image, labels, *, crop_box=None, opacity=0.5, names=None",
        "neighbour_colours": "labels",
    },
    "diffsegkit.weights": {
        "ComponentFiles": "folder, weights=None, required=('config.json',), wanted=(), "
        "optional=False, tensors=()",
        "ModelFiles": "model, components, revision=None, variant=None",
        "ModelState": "folder, names=(), size=0, problem=''",
        "WeightsDigest": "",
        "check_folder": "folder, files",
        "check_safetensors": "path",
        "download_model": "files",
        "files_in": "folder, files",
        "find_model": "files",
        "find_variant": "folder, component, variant",
        "model_state": "files",
    },
}

METHODS = {
    "AttentionSource.forward": "self, images, *, prompts=None",
    "AttentionSource.fingerprint": "self",
    "Aggregator.forward": "self, output",
    "Merger.forward": "self, aggregated, *, num_segments=None",
    "Assigner.forward": "self, proposals, size, *, aggregated=None",
    "Namer.forward": "self, labels, *, aggregated",
    "mergers.AnchorSampler.forward": "self, aggregated, points_per_side",
    "assigners.RefiningAssigner.refine": "self, masks, image",
    "segmenters.ImageSegmenter.label_map": "self, image",
    "data.SegmentationDataModule.find_records": "self",
    "Proposals.of_parts": "parts",
    "AggregatedAttention.rows": "self, index",
    "Segmenter.forward": "self, images, *, prompts=None, num_segments=None, batch_size=4",
    "Segmenter.from_preset": "preset, **overrides",
    "Segmenter.extract": "self, images, *, prompts=None",
    "Segmenter.aggregate": "self, output",
    "Segmenter.merge": "self, aggregated, *, num_segments=None",
    "Segmenter.assign": "self, proposals, size, *, aggregated=None",
    "Segmentation.overlay": "self, image, opacity=0.5",
    "Segmentation.to_coco": "self, image_id=1, first_id=1",
    "Segmentation.save": "self, directory, stem, *, image=None, metadata=None",
}


def parameters(function):
    """The signature without annotations; nothing for a class that takes nothing of its own."""
    if inspect.isclass(function) and function.__init__ is torch.nn.Module.__init__:
        return ""
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))[1:-1]


@pytest.mark.parametrize("module", API)
def test_names_and_signatures(module):
    found = importlib.import_module(module)
    assert sorted(found.__all__) == sorted(API[module])
    for name, expected in API[module].items():
        if expected is not None:
            assert parameters(getattr(found, name)) == expected, name


@pytest.mark.parametrize("method", METHODS)
def test_methods(method):
    assert parameters(pkgutil.resolve_name(f"diffsegkit.{method}")) == METHODS[method]


@pytest.mark.parametrize("module", API)
def test_everything_is_documented(module):
    found = importlib.import_module(module)
    for name in found.__all__:
        public = getattr(found, name)
        assert public.__doc__, name
        if not callable(public) or API[module][name] is None:
            continue
        if parameters(public) not in ("", "self") and name != "load":
            assert "Args:" in public.__doc__, name
            for parameter in inspect.signature(public).parameters:
                assert f" {parameter.removeprefix('**')}: " in public.__doc__, (
                    f"{name}: {parameter}"
                )


@pytest.mark.parametrize("part", ["AttentionSource", "Aggregator", "Merger", "Assigner", "Namer"])
def test_each_part_has_one_abstract_method(part):
    assert getattr(diffsegkit, part).__abstractmethods__ == {"forward"}
    with pytest.raises(TypeError, match="abstract"):
        getattr(diffsegkit, part)()


def test_importing_the_package_imports_nothing_heavy():
    script = (
        "import sys, diffsegkit; assert 'torch' not in sys.modules;"
        "diffsegkit.Segmenter; assert 'diffusers' not in sys.modules and "
        "'transformers' not in sys.modules; assert set(diffsegkit.__all__) <= set(dir(diffsegkit))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'Segmentr'"):
        _ = diffsegkit.Segmentr
