"""A transfer is found by its evidence and by its hash, and the state of the rules may be kept.

The last 8 bytes of each transfer's evidence are read from its record once; hashes are added by the
writer when it has time.
"""

import sqlalchemy as sa
from alembic import op

from ledger.database import Hash32, Integer64
from ledger.records import Transfer, decode
from ledger.tables import insert_only

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PAGE = 1_000


def upgrade() -> None:
    connection = op.get_bind()
    dialect = connection.dialect.name
    # Insert-only tables cannot be changed, so it is made again and filled from the one before.
    if dialect == "postgresql":
        op.execute("DROP TRIGGER ledger_transfer_insert_only ON ledger_transfer")
        op.execute("ALTER TABLE ledger_transfer DROP CONSTRAINT pk_ledger_transfer")
    else:
        op.execute("DROP TRIGGER ledger_transfer_no_update")
        op.execute("DROP TRIGGER ledger_transfer_no_delete")
    op.rename_table("ledger_transfer", "ledger_transfer_before")
    op.create_table(
        "ledger_transfer",
        sa.Column("id", Hash32),
        sa.Column("position", Integer64, nullable=False),
        sa.Column("evidence", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_transfer"),
    )
    _fill(connection)
    op.drop_table("ledger_transfer_before")
    op.create_index("ix_ledger_transfer_evidence", "ledger_transfer", ["evidence"])
    op.create_table(
        "ledger_named",
        sa.Column("position", Integer64, autoincrement=False),
        sa.Column("hash", Integer64, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_ledger_named"),
    )
    op.create_index("ix_ledger_named_hash", "ledger_named", ["hash"])
    op.create_table(
        "ledger_snapshot",
        sa.Column("size", Integer64, autoincrement=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_ledger_snapshot"),
    )
    for name in ("ledger_transfer", "ledger_named"):
        for statement in insert_only(name, dialect):
            op.execute(statement)


def _fill(connection: sa.Connection) -> None:
    new = sa.table("ledger_transfer", sa.column("id"), sa.column("position"), sa.column("evidence"))
    query = sa.text(
        "SELECT t.id, t.position, r.data FROM ledger_transfer_before t"
        " JOIN ledger_record r ON r.position = t.position"
        " WHERE t.position > :after ORDER BY t.position LIMIT :page"
    )
    connection.execute(sa.text("CREATE INDEX ix_ledger_transfer_before ON ledger_transfer_before (position)"))
    after = -1
    while rows := connection.execute(query, {"after": after, "page": PAGE}).all():
        filled = []
        for id, position, data in rows:
            record = decode(bytes(data))
            assert isinstance(record, Transfer)
            tail = int.from_bytes(record.evidence[-8:], "big", signed=True)
            filled.append({"id": id, "position": position, "evidence": tail})
        connection.execute(sa.insert(new), filled)
        after = rows[-1].position
