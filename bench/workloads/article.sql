CREATE TABLE article (
    id         bigint PRIMARY KEY,
    title      text        NOT NULL,
    body       text        NOT NULL,
    views      integer     NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE PROCEDURE load(transactions bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        INSERT INTO article
        SELECT n,
               'article ' || n,
               (SELECT string_agg(md5((n * 1000 + part)::text), '') FROM generate_series(1, 250) part),
               n % 1000,
               timestamptz '2026-01-01 00:00:00+00' + n * interval '1 s'
        FROM generate_series(t::bigint * 1000 + 1, t::bigint * 1000 + 1000) n;
        COMMIT;
    END LOOP;
END
$$;

CREATE PROCEDURE change(transactions bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        UPDATE article
        SET views = views + 1, changed_at = changed_at + interval '1 day'
        WHERE id BETWEEN t * 1000 + 1 AND t * 1000 + 1000;
        COMMIT;
    END LOOP;
END
$$;

CREATE PROCEDURE remove(transactions bigint) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT max(id) FROM article);
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        DELETE FROM article WHERE id BETWEEN last - t * 1000 - 999 AND last - t * 1000;
        COMMIT;
    END LOOP;
END
$$;
