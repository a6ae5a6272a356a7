# IFN on pairs of four 16-bit bands: 256×256 crops, 40,000 iterations
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/four_bands.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
model = dict(
    data_preprocessor=dict(mean=[127.5] * 4, std=[64.] * 4, bgr_to_rgb=False),
    backbone=dict(in_channels=4))
