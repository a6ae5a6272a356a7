# IFN with the paper's losses and dropout; the schedule of ifn_256x256_40k_levircd.py
_base_ = [
    '../_base_/models/ifn_paper.py', '../_base_/datasets/levircd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
