"""CLIMB: find the pre-training mixture of a language model (arXiv 2504.13161).

documents      = ingest(files)                                      jobs/ingest.py
n_tokens       = count(documents)                                   jobs/count.py
vectors_ND     = embed(documents)                                   climb.embed
scores_NS      = score(documents)                                   climb.quality
clusters_N     = k_means(vectors_ND)                                climb.spark.corpus.lloyd
domains_K      = merge(prune(clusters, scores))                     climb.domains
feasible_set   = weights that sum to 1 and satisfy the constraints  climb.mixture
for round in rounds:
    weights_MK = propose(trials, feasible_set, objective)           climb.search
    trials    += [train and evaluate a proxy for each mixture]      climb.proxy
recommendation = recommend(trials, feasible_set, objective)         climb.search
dataset        = mix(documents, recommendation)                     climb.dataset
"""
