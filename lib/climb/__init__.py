"""CLIMB: find the pre-training mixture of a language model (arXiv 2504.13161).

documents   = ingest(files)                                        jobs/ingest.py
n_tokens    = count(documents)                                     jobs/count.py
vectors_ND  = embed(documents)                                     climb.embed
scores_NS   = score(documents)                                     climb.quality
clusters_N  = k_means(vectors_ND)                                  climb.spark.kmeans
domains_K   = merge(prune(clusters, scores))                       climb.domains
space       = weights that sum to 1, within every domain's tokens  climb.mixture
problem     = space, objective, predictor, searcher                climb.search
for round_ in rounds:
    weights_MK = propose(trials, round_, problem)                  climb.search
    trials    += [train a proxy on w, measure it, for w in ...]    climb.proxy
answer      = recommend(trials, problem)                           climb.search
corpus      = mix(documents, answer)                               jobs/mix.py
"""
