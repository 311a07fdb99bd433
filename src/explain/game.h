/* A row of the model as a set function: features that are not in the coalition take the values of
 * the baseline, or of each background row in turn (then the score is their mean: the interventional
 * value). */
#ifndef EXPLAIN_GAME_H
#define EXPLAIN_GAME_H

#include "explain/features.h"
#include "games/games.h"

/* How a method turns a set function into values: one of games.h, or of its own. */
typedef xai_status (*game_solver)(const set_function *of, const features *parts,
                                  const explainer *self, const game_options *options,
                                  game_values *out, xai_error **error);

typedef struct game_method {
    game_solver solve;
    bool whole;      /* spatial inputs element by element when no segments are given */
    bool complete;   /* values sum to v(all) - v(nobody) */
    bool is_fit;     /* carries r2 */
    bool with_error; /* values have standard errors */
    bool walks;      /* asks for the same coalitions whatever their scores are: see local_walks.h */
    /* Coalitions for K features, that of all of them included: for the progress. */
    size_t (*cost)(const explainer *self, size_t features);
} game_method;

xai_status game_explain(explainer *self, const game_method *how, const batch *rows,
                        const xai_target *const *targets, size_t target_count, explanation **out,
                        xai_error **error);

#endif
