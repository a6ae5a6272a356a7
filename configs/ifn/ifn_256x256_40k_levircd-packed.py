# The recipe of ifn_256x256_40k_levircd.py on the packed data set, which loads ten times as fast or more
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/levircd_packed.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
