CREATE TABLE lineitem (
    l_orderkey      bigint         NOT NULL,
    l_partkey       bigint         NOT NULL,
    l_suppkey       bigint         NOT NULL,
    l_linenumber    integer        NOT NULL,
    l_quantity      numeric(15, 2) NOT NULL,
    l_extendedprice numeric(15, 2) NOT NULL,
    l_discount      numeric(15, 2) NOT NULL,
    l_tax           numeric(15, 2) NOT NULL,
    l_returnflag    char(1)        NOT NULL,
    l_linestatus    char(1)        NOT NULL,
    l_shipdate      date           NOT NULL,
    l_commitdate    date           NOT NULL,
    l_receiptdate   date           NOT NULL,
    l_shipinstruct  char(25)       NOT NULL,
    l_shipmode      char(10)       NOT NULL,
    l_comment       varchar(44)    NOT NULL,
    l_changed_at    timestamptz    NOT NULL,
    l_attributes    jsonb,
    PRIMARY KEY (l_orderkey, l_linenumber)
);

-- Four lines an order, so a transaction of 1,000 rows is 250 orders.
CREATE PROCEDURE load(transactions bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        INSERT INTO lineitem
        SELECT n / 4 + 1,
               n * 7919 % 200000 + 1,
               n * 104729 % 10000 + 1,
               n % 4 + 1,
               n % 50 + 1,
               (n * 31 % 9500000) / 100.0 + 900,
               n % 11 / 100.0,
               n % 9 / 100.0,
               (ARRAY ['A', 'N', 'R'])[n % 3 + 1],
               (ARRAY ['O', 'F'])[n % 2 + 1],
               date '1992-01-02' + (n % 2500)::int,
               date '1992-02-01' + (n % 2500)::int,
               date '1992-01-20' + (n % 2500)::int,
               (ARRAY ['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'])[n % 4 + 1],
               (ARRAY ['REG AIR', 'AIR', 'RAIL', 'SHIP', 'TRUCK', 'MAIL', 'FOB'])[n % 7 + 1],
               substr(md5(n::text), 1, 10 + (n % 22)::int),
               timestamptz '2026-01-01 00:00:00+00' + n * interval '137 ms',
               jsonb_build_object('batch', t, 'weight', n % 1000 / 10.0, 'fragile', n % 5 = 0, 'label', md5((n / 7)::text))
        FROM generate_series(t::bigint * 1000, t::bigint * 1000 + 999) n;
        COMMIT;
    END LOOP;
END
$$;

CREATE PROCEDURE change(transactions bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        UPDATE lineitem
        SET l_quantity = l_quantity + 1, l_linestatus = 'F', l_changed_at = l_changed_at + interval '1 day'
        WHERE l_orderkey BETWEEN t * 250 + 1 AND t * 250 + 250;
        COMMIT;
    END LOOP;
END
$$;

CREATE PROCEDURE remove(transactions bigint) LANGUAGE plpgsql AS $$
DECLARE
    last bigint := (SELECT max(l_orderkey) FROM lineitem);
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        DELETE FROM lineitem WHERE l_orderkey BETWEEN last - t * 250 - 249 AND last - t * 250;
        COMMIT;
    END LOOP;
END
$$;
