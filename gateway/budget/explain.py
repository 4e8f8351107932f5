"""What a record says, in words, for whoever is about to sign it on a second device.

Pure: the same record gives the same lines everywhere, in Kazakh, Russian and English. The lines end with the
record's hashStruct, which a wallet shows as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from gateway.budget.typed_data import Typed, message_hash
from ledger.audit.papers import Paper, StateBodies, breaches
from ledger.records import Account, Commitment, Order, Record, hash_struct, member_name, reject
from ledger.rules import PAYEE, REPUBLIC

LANGUAGES = ("kk", "ru", "en")

# What is signed, by kind of record.
SAYS = {
    "Genesis": ("Бұл тізілімнің басы.", "Это начало этого реестра.", "This is the beginning of this ledger."),
    "Rules": ("Қандай ереже файлдары шешеді.", "Какие файлы правил решают.", "Which rule files decide."),
    "Contract": (
        "Қаланың келісімшарты танылады.",
        "Признаётся контракт города.",
        "A contract of the city counts.",
    ),
    "Parameter": (
        "Параметр 14 күннен кейін өзгереді.",
        "Параметр меняется через 14 дней.",
        "A parameter changes after 14 days.",
    ),
    "Seat": (
        "Лауазым 14 күннен кейін беріледі.",
        "Должность даётся через 14 дней.",
        "An office is given after 14 days.",
    ),
    "Quorum": (
        "Қанша адам қол қоюы керек екені 14 күннен кейін өзгереді.",
        "Сколько человек должно подписать, меняется через 14 дней.",
        "How many must sign changes after 14 days.",
    ),
    "Asset": ("Актив қабылданады.", "Принимается актив.", "An asset may be taken."),
    "Account": ("Шот тіркеледі.", "Регистрируется счёт.", "An account is registered."),
    "RevenueRule": (
        "Кодтың түсімі қай қорға жататыны.",
        "Какому фонду принадлежит доход по коду.",
        "Which fund a code's revenue belongs to.",
    ),
    "Rate": ("Бағам жазылады.", "Записывается курс.", "A rate is recorded."),
    "Block": ("Бюджет блогы бекітіледі.", "Утверждается бюджетный блок.", "A block budget is approved."),
    "Project": ("Жоба бекітіледі.", "Утверждается проект.", "A project is approved."),
    "Allocation": ("Жобаға ақша бөлінеді.", "Деньги выделяются проекту.", "Money is allotted to a project."),
    "Commitment": ("Келісім жасалады.", "Заключается договор.", "A contract is signed."),
    "Milestone": (
        "Келісімнің кезеңі бекітіледі.",
        "Утверждается этап договора.",
        "A part of a contract is fixed.",
    ),
    "Certificate": (
        "Жұмыс қабылданады немесе қайтарылады.",
        "Работа принимается или отклоняется.",
        "Work is accepted or refused.",
    ),
    "Order": ("ТӨЛЕУ бұйрығы.", "Приказ ЗАПЛАТИТЬ.", "An order to PAY."),
    "Approval": ("Мақұлдау жазылады.", "Записывается одобрение.", "An approval is recorded."),
    "Transfer": ("Ақша қозғалысы жазылады.", "Записывается движение денег.", "Money moved."),
    "Investment": (
        "Жеке инвестиция жазылады.",
        "Записывается частная инвестиция.",
        "A private investment is recorded.",
    ),
    "Release": ("Міндеттеме азаяды.", "Обязательство уменьшается.", "A commitment is made smaller."),
    "Move": (
        "Ақша бір бөлуден екіншісіне ауысады.",
        "Деньги переходят из одного выделения в другое.",
        "Money goes from one allocation to another.",
    ),
    "Exchange": ("Ақша айырбасталды.", "Деньги обменены.", "Money was exchanged."),
    "Refund": ("Ақшаны ҚАЙТАРУ.", "ВОЗВРАТ денег.", "Money is to go BACK."),
    "Reversal": ("Аударым жойылады.", "Перевод отменяется.", "A transfer is undone."),
    "Statement": ("Шоттың үзіндісі куәландырылады.", "Удостоверяется выписка.", "A statement is attested."),
    "Dispute": (
        "Бір келісім бойынша төлем ТОҚТАТЫЛАДЫ.",
        "Платежи по одному договору ОСТАНАВЛИВАЮТСЯ.",
        "Payments on one contract STOP.",
    ),
    "Resolution": ("Дау шешіледі.", "Спор решается.", "A dispute is settled."),
    "Acknowledgement": (
        "Бұзушылық ерекшелік деп танылады, мәңгі көрінеді.",
        "Нарушение признаётся исключением, оно видно всегда.",
        "A breach becomes an exception, listed for ever.",
    ),
    "Close": ("Жыл жабылады.", "Год закрывается.", "A year is closed."),
    "KeyChange": ("Тізілім кілті ауысады.", "Меняется ключ реестра.", "A key of the ledger changes."),
    "Resumption": (
        "Якорь ертерек күйден жалғасады: хабарланғаннан 14 күн өткен соң кейінгі күйлердің БӘРІ ЖАРАМСЫЗ.",
        "Якорь идёт с более раннего состояния: через 14 дней после объявления ВСЕ поздние НЕДЕЙСТВИТЕЛЬНЫ.",
        "The anchor goes on from an earlier head: 14 days after it is announced ALL later heads are VOID.",
    ),
    "Withdrawal": ("Қол кері алынады.", "Подпись отзывается.", "A signature is taken back."),
}

# What each member is called.
MEMBERS = {
    "account": ("шот", "счёт", "account"),
    "accepted": ("қабылданды", "принято", "accepted"),
    "act": ("акт (SHA-256)", "акт (SHA-256)", "act (SHA-256)"),
    "allocation": ("бөлу", "выделение", "allocation"),
    "allocation_hash": ("бөлудің хэші", "хэш выделения", "hash of the allocation"),
    "amount": ("сома, ең ұсақ бірлікте", "сумма в мельчайших единицах", "amount in smallest units"),
    "amount_from": (
        "берілгені, ең ұсақ бірлікте",
        "отдано в мельчайших единицах",
        "given, in smallest units",
    ),
    "amount_to": (
        "алынғаны, ең ұсақ бірлікте",
        "получено в мельчайших единицах",
        "received, in smallest units",
    ),
    "anchor": ("якорь келісімшарты", "контракт якоря", "anchor contract"),
    "approves": ("мақұлданған жазба", "одобряемая запись", "record that is approved"),
    "as_of": ("қай кезге", "на момент", "as of"),
    "asset": ("актив", "актив", "asset"),
    "at": ("мекенжай", "адрес", "address"),
    "block": ("бюджет блогы", "бюджетный блок", "block budget"),
    "by": ("кім", "кто", "by"),
    "certificate_hash": ("актінің хэші", "хэш сертификата", "hash of the certificate"),
    "chain_id": ("желі", "сеть", "chain"),
    "closing": ("соңғы қалдық", "остаток на конец", "closing balance"),
    "code": ("код", "код", "code"),
    "code_hash": ("код хэші", "хэш кода", "hash of the code"),
    "commitment": ("келісім", "договор", "contract signed"),
    "commitment_hash": ("келісімнің хэші", "хэш договора", "hash of the contract signed"),
    "council": ("Кеңес келісімшарты", "контракт Совета", "council contract"),
    "credit": ("кредит", "кредит", "credit"),
    "debit": ("дебет", "дебет", "debit"),
    "decimals": ("ондық таңба", "десятичных знаков", "decimals"),
    "denominator": ("бөлім", "знаменатель", "denominator"),
    "document": ("құжат (SHA-256)", "документ (SHA-256)", "document (SHA-256)"),
    "evidence": ("дәлел (SHA-256)", "доказательство (SHA-256)", "evidence (SHA-256)"),
    "founding": ("алғашқы орындар", "первые должности", "founding seats"),
    "from_account": ("қай шоттан", "со счёта", "from account"),
    "from_hash": ("қайдан", "откуда", "from"),
    "from_year": ("қай жылдан", "с года", "from year"),
    "fund": ("қор", "фонд", "fund"),
    "head_size": ("сол күйдегі жазбалар саны", "записей в этом состоянии", "records in that head"),
    "head_time": ("сол күй бекітілген уақыт", "когда это состояние заякорено", "when that head was anchored"),
    "holder": ("кімге", "кому", "holder"),
    "id": ("белгі", "идентификатор", "id"),
    "index": ("жазба нөмірі", "номер записи", "number of the record"),
    "key": ("кілт", "ключ", "key"),
    "kind": ("түрі", "вид", "kind"),
    "ledger": ("тізілім", "реестр", "ledger"),
    "legal_ref": ("құқықтық негіз", "правовое основание", "legal basis"),
    "limit": ("шек, тиын", "предел, тиын", "limit, tiyn"),
    "milestone": ("кезең", "этап", "milestone"),
    "milestone_hash": ("кезеңнің хэші", "хэш этапа", "hash of the milestone"),
    "min_share": ("қаланың үлесі, 1/10 000", "доля города, 1/10 000", "city's share, 1/10,000"),
    "name": ("атауы", "название", "name"),
    "needed": ("қанша қол керек", "сколько подписей нужно", "signatures needed"),
    "numerator": ("алым", "числитель", "numerator"),
    "opening": ("бастапқы қалдық", "остаток на начало", "opening balance"),
    "order": ("бұйрық", "приказ", "order"),
    "outcome": ("нәтиже", "исход", "outcome"),
    "owner": ("иесі", "владелец", "owner"),
    "party": ("тарап", "сторона", "party"),
    "payee": ("алушы", "получатель", "payee"),
    "place": ("орны", "место", "place"),
    "project": ("жоба", "проект", "project"),
    "project_hash": ("жобаның хэші", "хэш проекта", "hash of the project"),
    "purpose": ("мақсаты", "назначение", "purpose"),
    "r": ("r", "r", "r"),
    "rate_hash": ("бағамның хэші", "хэш курса", "hash of the rate"),
    "reason": ("себебі", "причина", "reason"),
    "receipt_hash": ("түсімнің хэші", "хэш поступления", "hash of the receipt"),
    "refund_to": ("қайда қайтару керек", "куда возвращать", "where it may go back to"),
    "retention_end": ("сақтау соңы", "конец удержания", "end of retention"),
    "role": ("лауазым", "должность", "office"),
    "root": ("сол күйдің түбірі", "корень этого состояния", "root of that head"),
    "rule": ("ереже", "правило", "rule"),
    "s": ("s", "s", "s"),
    "sector": ("сала", "отрасль", "sector"),
    "sha256": ("файлдар (SHA-256)", "файлы (SHA-256)", "files (SHA-256)"),
    "signer": ("кім қол қойды", "кто подписал", "signer"),
    "source1": ("бірінші дереккөз", "первый источник", "first source"),
    "source2": ("екінші дереккөз", "второй источник", "second source"),
    "state_hash": ("күйдің хэші", "хэш состояния", "hash of the state"),
    "time": ("жазылған уақыты", "время записи", "recorded at"),
    "to": ("қайда", "куда", "to"),
    "to_account": ("қай шотқа", "на счёт", "to account"),
    "to_hash": ("қайда", "куда", "to"),
    "to_year": ("қай жылға дейін", "по год", "to year"),
    "token": ("токен", "токен", "token"),
    "v": ("v", "v", "v"),
    "valid_from": ("қашаннан", "с какого времени", "valid from"),
    "valid_to": ("қашанға дейін", "до какого времени", "valid to"),
    "valid_until": ("қашанға дейін", "до какого времени", "valid until"),
    "value": ("мәні", "значение", "value"),
    "vkey_hash": ("кілттің хэші", "хэш ключа", "hash of the key"),
    "year": ("жыл", "год", "year"),
    "authority": ("негізі", "основание", "authority"),
}

YES_NO = {1: ("иә", "да", "yes"), 0: ("ЖОҚ", "НЕТ", "NO")}
ENDS = {0: ("келісім жалғасады", "договор продолжается", "the contract goes on"),
        1: ("келісім АЯҚТАЛАДЫ", "договор ПРЕКРАЩАЕТСЯ", "the contract ENDS")}  # fmt: skip
ZERO = ("жоқ", "нет", "none")
COMPARE = (
    "Әмиянда дәл осы сөз көрінуі керек:",
    "В кошельке должно стоять ровно это слово:",
    "The wallet must show exactly this word:",
)
WITHDRAWN = (
    "Бұрын қойылған қол кері алынады.",
    "Ранее поставленная подпись отзывается.",
    "A signature given before is taken back.",
)
SIGNATURE_UNTIL = ("қол осы уақытқа дейін жарамды", "подпись действует до", "the signature counts until")
WHERE = (
    "Қол тек мына жерде жарамды:",
    "Подпись действует только здесь:",
    "The signature counts here and nowhere else:",
)
HASHES = (
    "Әмиян осы хэштердің бірін көрсетсе, ол дәл осындай болуы керек:",
    "Если кошелёк показывает один из этих хэшей, он должен быть ровно таким:",
    "If the wallet shows one of these hashes, it must be exactly this:",
)
# What stands against a payee, by rule (ledger/audit/papers.py), for whoever was given its papers (LEAKS 07).
PAPERS_SAY = {
    "U1": (
        "НАЗАР АУДАРЫҢЫЗ: алушының құжаттары бұл жазбаға сәйкес емес.",
        "ВНИМАНИЕ: бумаги получателя не от этой записи.",
        "WARNING: the payee's papers are not those of this record.",
    ),
    "U2": (
        "НАЗАР АУДАРЫҢЫЗ: алушының шоты республика Қазынашылығында (070 банкі): бұл басқа атпен республика.",
        "ВНИМАНИЕ: счёт получателя в Казначействе республики (банк 070): это республика под другим именем.",
        "WARNING: the payee's account is with the Treasury (bank 070): the republic under another name.",
    ),
    "U3": (
        "НАЗАР АУДАРЫҢЫЗ: алушының БСН-і мемлекеттік органдікі: бұл басқа атпен республика.",
        "ВНИМАНИЕ: БИН получателя принадлежит государственному органу: это республика под другим именем.",
        "WARNING: the payee's BIN is that of a state body: the republic under another name.",
    ),
    "U4": (
        "НАЗАР АУДАРЫҢЫЗ: шығыс 15-топта, яғни басқа бюджеттерге трансферт.",
        "ВНИМАНИЕ: расход идёт по группе 15, это трансферты другим бюджетам.",
        "WARNING: the expenditure is of group 15, transfers to other budgets.",
    ),
}
NO_PAPERS = (
    "НАЗАР АУДАРЫҢЫЗ: берілген файлда бұл алушының құжаттары жоқ:",
    "ВНИМАНИЕ: в данном файле нет бумаг этого получателя:",
    "WARNING: the file that was given has no papers of this payee:",
)
PAPERS_FIT = (
    "Алушының құжаттары тексерілді, қарсылық жоқ. Тізімдегі мемлекеттік органдар саны:",
    "Бумаги получателя проверены, возражений нет. Государственных органов в списке:",
    "The payee's papers were compared, nothing stands against it. State bodies in the list:",
)
TIMES = frozenset({"time", "valid_from", "valid_to", "valid_until", "as_of", "retention_end", "head_time"})
# The last second that a calendar of four-digit years has.
LAST_S = 253_402_300_799


def explain(record: Record, language: str) -> list[str]:
    """What a record says: a sentence, a line for each member, and the word by which a wallet knows it."""
    at = _language(language)
    lines = [SAYS[type(record).__name__][at]]
    for name, _, form in record.members:
        shown = _shown(name, getattr(record, name), form, at)
        lines.append(f"  {MEMBERS[name][at]} ({member_name(name)}): {shown}")
    return [*lines, COMPARE[at], f"  hashStruct: 0x{hash_struct(record).hex()}"]


def explain_typed(typed: Typed, language: str) -> list[str]:
    """What a signature means: the record, until when, where, and the hashes that a wallet may show."""
    at = _language(language)
    if typed.record is None:
        lines = [WITHDRAWN[at], f"  {MEMBERS['approves'][at]}: 0x{typed.approves.hex()}"]
    else:
        lines = explain(typed.record, language)
        until = _shown("valid_until", typed.valid_until, "uint", at)
        lines.append(f"  {SIGNATURE_UNTIL[at]} (validUntil): {until}")
    return [
        *lines,
        WHERE[at],
        f"  {MEMBERS['chain_id'][at]} (chainId): {typed.chain_id}",
        f"  {MEMBERS['council'][at]} (verifyingContract): 0x{typed.council.hex()}",
        f"  {MEMBERS['ledger'][at]} (salt): 0x{typed.ledger.hex()}",
        HASHES[at],
        f"  domain hash: 0x{typed.domain.hex()}",
        f"  message hash: 0x{message_hash(typed).hex()}",
        f"  digest: 0x{typed.digest.hex()}",
    ]


def explain_papers(
    record: Record | None, papers: Mapping[str, Paper], bodies: StateBodies, language: str
) -> list[str]:
    """What the papers of the payee that a record is about say against it; nothing where it is about none."""
    at = _language(language)
    account = record if isinstance(record, Account) and record.kind in {PAYEE, REPUBLIC} else None
    if record is None or not (account or isinstance(record, Commitment | Order)):
        return []
    name = record.payee if isinstance(record, Commitment | Order) else account.account if account else ""
    paper = papers.get(name)
    if paper is None:
        return [f"{NO_PAPERS[at]} {name}"]
    lines: list[str] = []
    for breach in breaches(paper, account, bodies, _day_of(record)):
        # Registered as the republic it is kept waiting by the ledger itself, and nothing is hidden.
        if account is None or account.kind == PAYEE or breach.rule == "U1":
            lines += [PAPERS_SAY[breach.rule][at], f"  {breach}"]
    return lines or [f"{PAPERS_FIT[at]} {len(bodies.by_bin)} ({bodies.as_of})"]


def _day_of(record: Record) -> date:
    return datetime.fromtimestamp(min(record.time, LAST_S), tz=UTC).date()


def _language(language: str) -> int:
    if language not in LANGUAGES:
        reject("language", "explain", f"{language} is none of {', '.join(LANGUAGES)}")
    return LANGUAGES.index(language)


def _shown(name: str, value: object, form: str, at: int) -> str:
    if isinstance(value, bytes):
        return f"0x{value.hex()}" if any(value) else ZERO[at]
    if isinstance(value, str):
        return value
    assert isinstance(value, int)
    if name in TIMES and value <= LAST_S:
        return f"{datetime.fromtimestamp(value, tz=UTC):%Y-%m-%d %H:%M:%S} UTC ({value})"
    if name == "accepted" and value in YES_NO:
        return f"{YES_NO[value][at]} ({value})"
    if name == "outcome" and value in ENDS:
        return f"{ENDS[value][at]} ({value})"
    # A thin space would be finer, but not every device has it.
    return f"{value:,}".replace(",", " ") if form == "amount" or value >= 10_000 else str(value)
