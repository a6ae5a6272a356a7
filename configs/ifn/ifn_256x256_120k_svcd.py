# IFN on SVCD: 256×256 crops, 120,000 iterations
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/svcd.py', '../_base_/schedules/schedule_120k.py',
    '../_base_/default_runtime.py'
]
