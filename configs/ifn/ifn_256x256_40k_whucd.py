# IFN on WHU-CD: 256×256 crops, 40,000 iterations
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/whucd.py', '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py'
]
