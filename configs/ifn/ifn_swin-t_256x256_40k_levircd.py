# IFN's decoder on a trainable Swin-T instead of VGG16; otherwise the recipe of ifn_256x256_40k_levircd.py
_base_ = [
    '../_base_/models/ifn_swin-t.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
