"""The words of the report in Kazakh, Russian and English."""

from __future__ import annotations

LANGUAGES = {"kk": "Қазақша", "ru": "Русский", "en": "English"}

# key: (kk, ru, en)
WORDS = {
    "title": ("Қазына аудиті", "Аудит казны", "Audit of the treasury"),
    "valid": ("Тәртіп бұзушылық табылмады", "Нарушений не найдено", "Nothing was found"),
    "invalid": ("Тәртіп бұзушылықтар табылды", "Найдены нарушения", "Breaches were found"),
    "records": ("Жазбалар", "Записи", "Records"),
    "checkpoint": ("Бақылау нүктесі", "Контрольная точка", "Checkpoint"),
    "chain_checked": ("Блокчейнмен салыстырылды", "Сверено с блокчейном", "Compared with the chain"),
    "chain_unchecked": ("Блокчейнмен салыстырылмады", "С блокчейном не сверено", "Not compared with a chain"),
    "own_keys": ("Кілттер аудитордікі", "Ключи принёс аудитор", "Keys were the auditor's own"),
    "bundle_keys": (
        "Кілттер жинақтың өзінен алынды",
        "Ключи взяты из самого пакета",
        "Keys were taken from the bundle",
    ),
    "findings": ("Табылған бұзушылықтар", "Найденные нарушения", "Findings"),
    "none": ("Жоқ", "Нет", "None"),
    "severity": ("Маңызы", "Тяжесть", "Severity"),
    "critical": ("өте ауыр", "критично", "critical"),
    "high": ("ауыр", "серьёзно", "high"),
    "low": ("жеңіл", "незначительно", "low"),
    "rule": ("Ереже", "Правило", "Rule"),
    "where": ("Орны", "Где", "Where"),
    "why": ("Себебі", "Почему", "Why"),
    "amount": ("Сома", "Сумма", "Amount"),
    "money": ("Ақша қозғалысы", "Движение денег", "Where the money went"),
    "fund": ("Қор", "Фонд", "Fund"),
    "asset": ("Актив", "Актив", "Asset"),
    "opening": ("Бастапқы қалдық", "Входящий остаток", "Opening"),
    "revenue": ("Түсім", "Поступления", "Revenue"),
    "refunds": ("Қайтарылғаны", "Возвраты", "Refunds"),
    "exchange": ("Айырбас нәтижесі", "Результат обмена", "Exchange"),
    "paid_out": ("Инфрақұрылымға төленді", "Оплачено за инфраструктуру", "Paid to infrastructure"),
    "closing": ("Соңғы қалдық", "Исходящий остаток", "Closing"),
    "committed_unpaid": (
        "Міндеттелген, төленбеген",
        "Обязательства, не оплачено",
        "Committed, not yet paid",
    ),
    "free": ("Бос қаражат", "Свободно", "Free"),
    "projects": ("Жобалар, теңге", "Проекты, тенге", "Projects, tenge"),
    "approved": ("Бекітілді", "Утверждено", "Approved"),
    "allotted": ("Бөлінді", "Выделено", "Allotted"),
    "committed": ("Келісімшартта", "Законтрактовано", "Committed"),
    "certified": ("Қабылданды", "Принято работ", "Certified"),
    "paid": ("Төленді", "Оплачено", "Paid"),
    "invested": (
        "Жеке инвестиция (бюджет ақшасы емес)",
        "Частные инвестиции (не деньги бюджета)",
        "Private investment (never public money)",
    ),
    "others": ("басқалары", "прочие", "others"),
    "exceptions": ("Ерекше жағдайлар", "Исключения", "Exceptions"),
    "pending": ("Күтуде", "Ожидает записи", "Pending"),
    "said": ("Ескертпелер", "Примечания", "Notes"),
}


def word(key: str) -> str:
    """A word in all three languages; the page shows one. The words are ours and need no escaping."""
    return "".join(
        f'<span class="{language}" lang="{language}">{text}</span>'
        for language, text in zip(LANGUAGES, WORDS[key], strict=True)
    )


def drawn_word(key: str, attributes: str) -> str:
    """The same inside a drawing."""
    return "".join(
        f'<text class="{language}" lang="{language}" {attributes}>{text}</text>'
        for language, text in zip(LANGUAGES, WORDS[key], strict=True)
    )
