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
    "chain_checked": ("Салыстырылды", "Сверено", "Compared"),
    "chain_unchecked": ("Салыстырылмады", "Не сверено", "Not compared"),
    "chain": ("Блокчейн", "Блокчейн", "Chain"),
    "keys": ("Кілттер", "Ключи", "Keys"),
    "own_keys": ("Аудитордікі", "Принёс аудитор", "The auditor's own"),
    "bundle_keys": ("Жинақтың өзінен алынды", "Взяты из самого пакета", "Taken from the bundle"),
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
    "unmatched": ("Анықталмаған түсім", "Невыясненные поступления", "Unmatched receipts"),
    "comes_to": ("Есеп бойынша", "По расчёту", "Comes to"),
    "came": ("Қайдан келді", "Откуда пришло", "Where it came from"),
    "became": ("Қайда кетті", "Куда ушло", "Where it went"),
    "period": ("Кезең", "Период", "Period"),
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
    "of_approved": ("Бекітілген сомадан", "От утверждённого", "Of what was approved"),
    "of_allotted": ("Бөлінген сомадан", "От выделенного", "Of what was allotted"),
    "waiting": (
        "Бекітілді, әлі бөлінбеді",
        "Утверждены, ещё ничего не выделено",
        "Approved, nothing allotted yet",
    ),
    "samples": ("Іріктелген жазбалар", "Выборка записей", "Sampled records"),
    "held": ("Аудитор ұсынған құжаттар", "Документы аудитора", "The auditor's documents"),
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
