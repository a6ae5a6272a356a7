# Baseline for IFN: the same encoder with U-Net's decoder, which shows what IFN's decoder contributes
_base_ = [
    '../_base_/models/unet_vgg16.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
