/* v2.h: the Open Inference Protocol's pages (KServe v2 REST with Triton's extensions): operators as models. */
#ifndef AITERD_V2_H
#define AITERD_V2_H

struct request;

void v2_server(struct request *req);
void v2_live(struct request *req);
void v2_ready(struct request *req);
void v2_model(struct request *req);
void v2_model_ready(struct request *req);
void v2_config(struct request *req);
void v2_stats(struct request *req);
void v2_all_stats(struct request *req);
void v2_index(struct request *req);
void v2_load(struct request *req);

#endif
