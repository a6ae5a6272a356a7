# IFN on S2Looking: 512×512 crops, 80,000 iterations
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/s2looking.py', '../_base_/schedules/schedule_80k.py',
    '../_base_/default_runtime.py'
]
