"""A table with a column of every type that PostgreSQL has and a user may store, each with the values that are lost first: its ends, its odd ones."""

from __future__ import annotations

from collections.abc import Mapping

OWN = (
    "CREATE TYPE mood AS ENUM ('calm', 'it''s \"wild\", a,b', '')",
    "CREATE DOMAIN mail AS text CHECK (VALUE ~ '@')",
    "CREATE DOMAIN code AS char(5)",
    "CREATE DOMAIN cents AS numeric(12, 2) CHECK (VALUE >= 0)",
    "CREATE TYPE place AS (x int, label text, mood mood, more int[])",
    "CREATE DOMAIN somewhere AS place CHECK ((VALUE).x > 0)",
    "CREATE TYPE stretch AS RANGE (subtype = float8, subtype_diff = float8mi)",
)

ARRAY_OF_ARRAYS = "ARRAY[[1, NULL], [NULL, 4]]"
PLACE = "ROW(1, 'a,\"b\"', 'calm', ARRAY[1, NULL])"

VALUES: Mapping[str, tuple[str, ...]] = {
    # numbers
    "bool": ("true", "false"),
    "int2": ("-32768", "32767"),
    "int4": ("-2147483648", "2147483647"),
    "int8": ("'-9223372036854775808'", "9223372036854775807", "9007199254740993"),
    "oid": ("0", "4294967295"),
    "float4": ("'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "0.1", "'1e-45'", "'3.4028235e38'"),
    "float8": ("'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "0.1", "'5e-324'", "'1.7976931348623157e308'"),
    "numeric": ("1.10", "1.1", "1.100", "'NaN'", "'Infinity'", "'-Infinity'", "0.000", "1e300", "1e-300", "-12345678901234567890.0123456789"),
    "numeric(30,10)": ("0.1", "-12345678901234567890.0123456789"),
    "numeric(3,5)": ("0.00123",),
    "numeric(5,-2)": ("1234500", "'NaN'"),
    "money": ("'0.01'", "'-92233720368547758.08'"),
    # text
    "text": ("''", "' '", r"E'a\\b\t\n\r\n\\.\n\"''x'", r"'\N'", "'NULL'", "'größe 😀'", "repeat('long ', 5000)"),
    "varchar(9)": ("''", "E'\\t\\n\\\\'"),
    "char(5)": ("''", "'ab'"),
    '"char"': ("'x'", "''"),
    "name": ("''", "'y'"),
    "bytea": ("''", r"'\x00ff5c0a0d'", "decode(repeat('00', 5000), 'hex')"),
    "uuid": ("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    "json": ("""'{"a":  1, "a": 2}'""", "'null'", "'\"\"'"),
    "jsonb": (
        """'{"a": {"b": [1.10, null, {"c": ""}], "d\\u00e9": "\\"x\\n"}, "e": 1e100}'""", "'null'", "'\"\"'", "'{}'", "'[]'",
    ),
    "jsonpath": ("'$.a[*] ? (@.b > 1)'",),
    "xml": ("'<a b=\"1\">ü &amp; x</a>'", "''"),
    "tsvector": ("'a:1A b:2'", "''"),
    "tsquery": ("'a & !b'", "''"),
    "refcursor": ("'c'",),
    # times, as far as Parquet holds them, and as far as PostgreSQL does
    "date": ("'0001-01-01'", "'9999-12-30'", "'1970-01-01'"),
    "timestamp": ("'0001-01-01'", "'9999-12-30 23:59:59.999999'", "'1969-12-31 23:59:59.999999'"),
    "timestamptz": ("'0001-01-01 00:00+00'", "'9999-12-30 23:59:59.999999+00'", "'2024-03-31 02:30:00.000001+01'"),
    "timestamptz(3)": ("'2024-01-01 00:00:00.123+00'",),
    "date far": ("'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'0001-12-31 BC'"),
    "timestamp far": ("'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31 23:59:59.999999'"),
    "timestamptz far": ("'infinity'", "'-infinity'", "'0044-03-15 12:00:00.000001+00 BC'", "'294276-12-31 23:59:59.999999+00'"),
    "time": ("'00:00'", "'24:00:00'", "'23:59:59.999999'"),
    "timetz": ("'00:00+15:59'", "'24:00:00-15:59'", "'12:00:00.000001+05:45'"),
    "interval": ("'1 month'", "'30 days'", "'720 hours'", "'-1 year 2 days -00:00:00.000001'", "'178000000 years'", "'0'"),
    # addresses, bits, shapes
    "inet": ("'10.0.0.1'", "'10.0.0.1/8'", "'::1'", "'fe80::1/64'"),
    "cidr": ("'10.0.0.0/8'", "'::/0'"),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'",),
    "bit(5)": ("B'01010'",),
    "bit varying": ("B''", "B'0101'"),
    "point": ("'(0.1, -0)'", "'(NaN, Infinity)'"),
    "line": ("'{1, 0.1, -3}'",),
    "lseg": ("'[(0, 0), (1, 0.1)]'",),
    "box": ("'(1, 1), (0, 0.1)'",),
    "path": ("'[(0, 0), (1, 0.1)]'", "'((0, 0), (1, 0.1))'"),
    "polygon": ("'((0, 0), (1, 0.1), (1, 1))'",),
    "circle": ("'<(0, 0.1), 2>'",),
    # ranges
    "int4range": ("'empty'", "'[1,3)'", "'(,)'"),
    "int8range": ("'[1,3)'",),
    "numrange": ("'[1.10,1.2]'", "'(,NaN]'"),
    "daterange": ("'[2024-01-01,infinity)'", "'empty'"),
    "tsrange": ("'(-infinity,\"2024-01-01 00:00:00.000001\"]'",),
    "tstzrange": ("'[\"0044-03-15 BC\",)'",),
    "int4multirange": ("'{}'", "'{[1,3),[7,9)}'"),
    "int8multirange": ("'{[1,3)}'",),
    "nummultirange": ("'{[1.10,1.2],(5,)}'",),
    "datemultirange": ("'{[2024-01-01,infinity)}'",),
    "tsmultirange": ("'{}'",),
    "tstzmultirange": ("'{[\"0044-03-15 BC\",)}'",),
    # of the server
    "pg_lsn": ("'16/B374D848'",),
    "pg_snapshot": ("'10:20:10,14,15'",),
    "txid_snapshot": ("'10:20:10,14,15'",),
    "tid": ("'(42,7)'",),
    "xid": ("'4294967295'",),
    "xid8": ("'18446744073709551615'",),
    "cid": ("'7'",),
    "aclitem": ("'postgres=r/postgres'",),
    "int2vector": ("'1 2'", "''"),
    "oidvector": ("'1 2'", "''"),
    **{f"reg{kind}": (value,) for kind, value in {
        "class": "'pg_class'", "type": "'int4'", "proc": "'now'", "procedure": "'abs(int4)'", "oper": "'||/'", "operator": "'+(int4,int4)'",
        "config": "'english'", "dictionary": "'simple'", "role": "'postgres'", "namespace": "'public'", "collation": "'\"C\"'",
    }.items()},
    # arrays, and types of the database's own
    "int4[]": ("'{}'", ARRAY_OF_ARRAYS, "'[0:1]={1,2}'", "'[2:2][-1:0]={{1,NULL}}'"),
    "text[]": ("ARRAY['', NULL, 'NULL', 'a,\"b\"', E'\\\\ \\n']", "'{}'"),
    "numeric[]": ("ARRAY[1.10, 'NaN', NULL]",),
    "timestamptz[]": ("ARRAY['infinity', '0044-03-15 BC', '2024-01-01 00:00:00.000001+00', NULL]::timestamptz[]",),
    "jsonb[]": ("""ARRAY['{"a": [1.10, null]}', 'null', NULL]::jsonb[]""",),
    "bytea[]": (r"ARRAY['\x00', '', NULL]::bytea[]",),
    "mood": ("'calm'", "'it''s \"wild\", a,b'", "''"),
    "mood[]": ("ARRAY['', NULL, 'it''s \"wild\", a,b']::mood[]",),
    "mail": ("'a@b'",),
    "code": ("'ab'", "''"),
    "code[]": ("ARRAY['ab', NULL, '']::code[]",),
    "mail[]": ("ARRAY['a@b', NULL]::mail[]",),
    "cents": ("1.10", "0"),
    "place": (PLACE, "ROW(NULL, NULL, NULL, NULL)", "ROW(1, '', '', '{}')"),
    "place[]": (f"ARRAY[{PLACE}, NULL, ROW(NULL, '', NULL, NULL)]::place[]",),
    "somewhere": (PLACE,),
    "stretch": ("'[0.1,Infinity)'", "'empty'"),
    "stretch_multirange": ("'{[-0,0.1],[5,)}'", "'{}'"),
}  # fmt: skip
"""Type → values of it, as SQL. A second word makes a second column of that type."""

INTERNAL = frozenset(
    (
        "gtsvector",
        "pg_node_tree",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
    )
)
"""What is of the server's own catalogs alone: no input function."""

ROWS = 40  # the first without any value, the others with each of them in turn


def made(without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The statements that make the table and its rows. `without`: types that this server was not built with."""
    values = {each: found for each, found in VALUES.items() if each not in without}
    columns = ", ".join(f"{name(each)} {of(each)}" for each in values)
    cases = ", ".join(
        f"CASE WHEN n > 1 THEN CASE n % {len(found)} "
        + " ".join(f"WHEN {number} THEN ({value})::{of(each)}" for number, value in enumerate(found))
        + " END END"
        for each, found in values.items()
    )
    return (
        *OWN,
        f"CREATE TABLE everything (id int PRIMARY KEY, at timestamptz NOT NULL, {columns})",
        f"INSERT INTO everything SELECT n, '2024-01-12'::timestamptz + n * interval '1 day 1 microsecond', {cases} FROM generate_series(1, {ROWS}) n",
    )


def of(each: str) -> str:
    """The type of a column."""
    return each.removesuffix(" far")


def name(each: str) -> str:
    """The column of a type, quoted."""
    return '"' + each.replace('"', "_") + '"'
