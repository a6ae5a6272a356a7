# IFN on JL1-CD: 512×512 crops, 200,000 iterations
_base_ = [
    '../_base_/models/ifn.py', '../_base_/datasets/jl1cd.py', '../_base_/schedules/schedule_200k.py',
    '../_base_/default_runtime.py'
]
