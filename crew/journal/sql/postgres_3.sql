-- Version 3: what is kept of a thread beside its runs.
CREATE TABLE threads (
    tenant text NOT NULL,
    thread text NOT NULL,
    metadata text NOT NULL,
    opening text NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    PRIMARY KEY (tenant, thread)
);
