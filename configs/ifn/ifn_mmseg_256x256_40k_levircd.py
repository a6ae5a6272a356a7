# The recipe of ifn_256x256_40k_levircd.py without open-cd's components, for mmsegmentation and open-cd alike
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
