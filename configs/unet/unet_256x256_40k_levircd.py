# Baseline for change detectors: mmseg's plain U-Net on both dates as one image
_base_ = [
    '../_base_/models/unet.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
