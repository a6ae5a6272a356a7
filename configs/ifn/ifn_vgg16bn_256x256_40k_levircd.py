# IFN's decoder on a trainable VGG16-BN instead of VGG16; otherwise the recipe of ifn_256x256_40k_levircd.py
_base_ = [
    '../_base_/models/ifn_vgg16bn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
custom_imports = dict(imports=['ifn_plugin', 'mmpretrain.models'])
